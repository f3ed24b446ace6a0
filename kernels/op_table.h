// The one explicit list of all ops. No op registers itself: a static library would drop it.
//
// Each group of ops is a file pair `<group>_ops.{h,cpp}` that offers `std::vector<OpInfo>
// <group>_ops()`; op_table.cpp concatenates them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

std::span<const OpInfo> op_table();            // built once, in name order
const OpInfo& find_op(std::string_view name);  // throws InvalidArgument with the nearest name

// Runs an op now and records it on the tapes its inputs are linked to. backend: kernels of other
// backends are passed over (for tests and benchmarks).
std::vector<Tensor> apply(const OpInfo& op, std::span<const Tensor> inputs,
                          const Attributes& attributes = {});
std::vector<Tensor> apply(std::string_view op, std::span<const Tensor> inputs,
                          const Attributes& attributes = {});
Tensor apply1(std::string_view op, std::initializer_list<Tensor> inputs,
              const Attributes& attributes = {});
std::vector<Tensor> apply_with(Backend backend, const OpInfo& op, std::span<const Tensor> inputs,
                               const Attributes& attributes = {});

}  // namespace superstep::kernels
