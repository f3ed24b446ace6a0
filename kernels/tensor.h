// A dense tensor: shape, element type and row-major storage that starts on 64 bytes with a padded
// tail.
//
// A Tensor is a handle: copies share the storage (like a shared_ptr). Images are (N, C, H, W).
// Ops never change their inputs; only kernels write, into fresh or planned outputs.
// Memory that somebody else owns (a shard, a batch buffer) enters through Tensor::borrow; it must
// remain valid while any handle to it lives, be 64-byte aligned and have its tail padded to 64
// bytes.
//
// A handle may carry links to tapes (kernels/tape.h): an op on a linked tensor is recorded.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/dtype.h"
#include "kernels/shape.h"

namespace superstep::kernels {

class TapeLinks;

class Tensor {
 public:
  Tensor() = default;  // empty: defined() is false
  static Tensor uninitialized(Shape shape, DType dtype);
  static Tensor zeros(Shape shape, DType dtype);
  static Tensor full(Shape shape, DType dtype, double value);
  template <typename T>
  static Tensor from(Shape shape, std::span<const T> values);
  template <typename T>
  static Tensor from(Shape shape, const std::vector<T>& values) {
    return from<T>(std::move(shape), std::span<const T>(values));
  }
  template <typename T>
  static Tensor scalar(T value) {
    return from<T>(Shape{}, std::span<const T>(&value, 1));
  }
  static Tensor borrow(Shape shape, DType dtype, std::byte* memory);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  std::int64_t num_elements() const { return num_elements_; }
  std::int64_t num_bytes() const { return num_elements_ * size_of(dtype_); }

  template <typename T>
  std::span<const T> data() const {
    SUPERSTEP_DEBUG_CHECK(dtype_ == dtype_of<T>(),
                          "dtype of tensor differs from the one asked for");
    return {reinterpret_cast<const T*>(bytes()), static_cast<std::size_t>(num_elements_)};
  }
  // For kernels and for those who fill a tensor they just made.
  template <typename T>
  std::span<T> mutable_data() {
    SUPERSTEP_DEBUG_CHECK(dtype_ == dtype_of<T>(),
                          "dtype of tensor differs from the one asked for");
    return {reinterpret_cast<T*>(mutable_bytes()), static_cast<std::size_t>(num_elements_)};
  }
  const std::byte* bytes() const { return storage_.get(); }
  std::byte* mutable_bytes() { return storage_.get(); }
  template <typename T>
  T item() const {  // the value of a tensor with one element
    SUPERSTEP_CHECK(num_elements_ == 1, "item() of a tensor with shape", shape_.to_string());
    require_not_under_recording("Tensor::item");
    return data<T>()[0];
  }

  // Both drop the tape links, so no gradient flows through. Within a function that a Program
  // records they (and item()) throw InvalidArgument, since what depends on their result would not
  // be recorded; reshape and stop_gradient of kernels/ops.h and kernels/tape.h are recorded.
  Tensor viewed_as(Shape shape) const;  // same storage, same number of elements
  Tensor detached() const;              // same storage, same shape
  bool shares_storage_with(const Tensor& other) const { return storage_ == other.storage_; }
  // For plans that run again and again: this handle gives up its storage for that of `other` (same
  // dtype and number of elements) without allocating; shape and links stay.
  void rebind(const Tensor& other);
  // ... or for the part of it that begins at `offset` bytes (a multiple of 64) and is large enough.
  void rebind(const Tensor& other, std::int64_t offset);
  // ... or for memory as borrow() takes it.
  void rebind(std::byte* memory);
  void unbind() { storage_.reset(); }

  const std::shared_ptr<const TapeLinks>& links() const { return links_; }
  Tensor with_links(std::shared_ptr<const TapeLinks> links) const;

 private:
  void require_not_under_recording(const char* where) const;

  Shape shape_;
  DType dtype_ = DType::kFloat32;
  std::int64_t num_elements_ = 0;
  std::shared_ptr<std::byte> storage_;
  std::shared_ptr<const TapeLinks> links_;
};

template <typename T>
// NOLINTNEXTLINE(performance-unnecessary-value-param): it is moved from
Tensor Tensor::from(Shape shape, std::span<const T> values) {
  Tensor tensor = uninitialized(std::move(shape), dtype_of<T>());
  SUPERSTEP_CHECK(static_cast<std::int64_t>(values.size()) == tensor.num_elements(),
                  "values for shape", tensor.shape().to_string(), values.size());
  std::copy(values.begin(), values.end(), tensor.mutable_data<T>().begin());
  return tensor;
}

}  // namespace superstep::kernels
