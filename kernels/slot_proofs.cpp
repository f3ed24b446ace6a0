#include "kernels/slot_proofs.h"

#include <cstring>
#include <utility>

#include "base/as_size.h"
#include "base/checked_cast.h"
#include "base/philox.h"
#include "kernels/matmul_over_slots.h"
#include "kernels/op_table.h"

namespace superstep::kernels::internal {

namespace {

Tensor random_tensor(const TensorType& type, std::uint64_t stream) {
  Tensor tensor = Tensor::zeros(type.shape, type.dtype);  // labels and keys stay 0
  PhiloxStream numbers(stream_id("slot_join"), stream);
  if (type.dtype == DType::kFloat32) {
    for (float& value : tensor.mutable_data<float>()) {
      value = 2.0F * numbers.uniform() - 1.0F;
    }
  }
  return tensor;
}

// Rows [slot n, (slot + 1) n) of a tensor, in memory of their own.
Tensor rows_of(const Tensor& whole, int slot, int num_slots) {
  std::vector<std::int64_t> sizes(whole.shape().sizes().begin(), whole.shape().sizes().end());
  sizes[0] /= num_slots;
  Tensor part = Tensor::uninitialized(Shape(std::move(sizes)), whole.dtype());
  std::memcpy(part.mutable_bytes(), whole.bytes() + slot * part.num_bytes(),
              static_cast<std::size_t>(part.num_bytes()));
  return part;
}

bool equal_bits(const std::byte* a, const Tensor& b) {
  return std::memcmp(a, b.bytes(), static_cast<std::size_t>(b.num_bytes())) == 0;
}

}  // namespace

TensorType repeated(const TensorType& type, int times) {
  std::vector<std::int64_t> sizes(type.shape.sizes().begin(), type.shape.sizes().end());
  sizes[0] *= times;
  return {type.dtype, Shape(std::move(sizes))};
}

Tensor repeat_rows(const Tensor& one, int times) {
  const TensorType type = repeated({one.dtype(), one.shape()}, times);
  Tensor whole = Tensor::uninitialized(type.shape, type.dtype);
  for (int i = 0; i < times; ++i) {
    std::memcpy(whole.mutable_bytes() + i * one.num_bytes(), one.bytes(),
                static_cast<std::size_t>(one.num_bytes()));
  }
  return whole;
}

// inputs[i] of one slot's type; rows[i]: it is one slot's rows.
bool rows_are_independent(const RecordedCall& call, std::span<const TensorType> types,
                          const std::vector<bool>& rows, int num_slots) {
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < types.size(); ++i) {
    inputs.push_back(random_tensor(rows[i] ? repeated(types[i], num_slots) : types[i], i));
  }
  const Tensor whole = apply(*call.op, inputs, call.attributes)[0];
  for (int slot = 0; slot < num_slots; ++slot) {
    std::vector<Tensor> parts;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      parts.push_back(rows[i] ? rows_of(inputs[i], slot, num_slots) : inputs[i]);
    }
    const Tensor part = apply(*call.op, parts, call.attributes)[0];
    if (part.num_elements() * num_slots != whole.num_elements() ||
        !equal_bits(whole.bytes() + slot * part.num_bytes(), part)) {
      return false;
    }
  }
  return true;
}

bool sums_over_slots_agree(const RecordedCall& call, std::span<const TensorType> types,
                           std::span<const int> folds) {
  const int num_slots = checked_cast<int>(folds.size());
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < types.size(); ++i) {
    inputs.push_back(random_tensor(repeated(types[i], num_slots), i));
  }
  std::vector<Tensor> stack;
  for (int slot = 0; slot < num_slots; ++slot) {
    stack.push_back(apply(*call.op,
                          std::vector<Tensor>{rows_of(inputs[0], slot, num_slots),
                                              rows_of(inputs[1], slot, num_slots)},
                          call.attributes)[0]);
    for (int fold = 0; fold < folds[as_size(slot)]; ++fold) {
      const Tensor right = std::move(stack.back());
      stack.pop_back();
      stack.back() = apply1("add", {stack.back(), right});
    }
  }
  const Tensor sum = apply(matmul_over_slots_op(), inputs, over_slots(call.attributes, folds))[0];
  return stack.size() == 1 && equal_bits(sum.bytes(), stack[0]);
}

}  // namespace superstep::kernels::internal
