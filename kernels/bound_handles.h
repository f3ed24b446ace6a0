// The caller's inputs and outputs inside a planned program: handles of the plan show their memory
// for the time of one run.
//
// Internal to Program.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor.h"

namespace superstep::kernels::internal {

// Where a value lives during run().
struct Place {
  enum class Kind : std::uint8_t { kNowhere, kInput, kOutput, kArena };
  Kind kind = Kind::kNowhere;
  int index = 0;  // of the input, the output, or the buffer in the arena
};

// A handle of the plan that shows the caller's memory during run().
struct Binding {
  Tensor* handle = nullptr;
  Place place;
  std::int64_t offset = 0;  // bytes
};

// For one run, also when a kernel throws. The bindings must outlive it.
class BoundHandles {
 public:
  BoundHandles(std::span<const Binding> bindings, std::span<const Tensor> inputs,
               std::span<const Tensor> outputs);
  BoundHandles(const BoundHandles&) = delete;
  BoundHandles& operator=(const BoundHandles&) = delete;
  ~BoundHandles();

 private:
  std::span<const Binding> bindings_;
};

}  // namespace superstep::kernels::internal
