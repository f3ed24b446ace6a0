// The checks of shape inference. Each throws InvalidArgument `[op] argument x: got ..., expected
// ...`.
//
//   expect_num_inputs("matmul", signature, 2);
//   expect_rank("matmul", "a", signature.inputs[0], 2);
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "kernels/op.h"

namespace superstep::kernels {

[[noreturn]] void fail_argument(std::string_view op, std::string_view argument,
                                std::string_view got, std::string_view expected);

void expect_num_inputs(std::string_view op, const OpSignature& signature, int expected);
void expect_floating(std::string_view op, std::string_view argument, const TensorType& type);
void expect_index(std::string_view op, std::string_view argument, const TensorType& type);
void expect_dtype(std::string_view op, std::string_view argument, const TensorType& type,
                  DType expected);
void expect_rank(std::string_view op, std::string_view argument, const TensorType& type,
                 int expected);
void expect_min_rank(std::string_view op, std::string_view argument, const TensorType& type,
                     int expected);
void expect_shape(std::string_view op, std::string_view argument, const TensorType& type,
                  const Shape& expected);
// As many inputs as names, all float32 or all float64.
void expect_floating_inputs(std::string_view op, const OpSignature& signature,
                            std::initializer_list<std::string_view> names);
// One value per axis (or `expected` values), each at least `least`.
void expect_values(std::string_view op, std::string_view argument,
                   const std::vector<std::int64_t>& values, std::size_t expected,
                   std::int64_t least);
// Runs the axis check of Shape::axis with the op and argument in the message.
int expect_axis(std::string_view op, std::string_view argument, const Shape& shape,
                std::int64_t axis);

}  // namespace superstep::kernels
