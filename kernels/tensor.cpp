#include "kernels/tensor.h"

#include <cstring>
#include <new>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/dispatch.h"
#include "kernels/tape_state.h"

namespace superstep::kernels {
namespace {

constexpr std::size_t kAlignment = 64;  // one cache line, one AVX-512 register

std::int64_t bytes_of(const Shape& shape, DType dtype) {
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(shape.num_elements(), size_of(dtype), &bytes)) {
    throw InvalidArgument(
        "Tensor", fmt::format("too many bytes: got shape {} of {}, expected fewer than 2^63",
                              shape.to_string(), name_of(dtype)));
  }
  return bytes;
}

// At least one line, so that an empty tensor has an address too.
std::shared_ptr<std::byte> allocate(std::int64_t bytes) {
  const std::size_t padded = (static_cast<std::size_t>(bytes) / kAlignment + 1) * kAlignment;
  void* memory = ::operator new(padded, std::align_val_t(kAlignment));
  return {static_cast<std::byte*>(memory),
          [](std::byte* p) { ::operator delete(p, std::align_val_t(kAlignment)); }};
}

}  // namespace

Tensor Tensor::uninitialized(Shape shape, DType dtype) {
  Tensor tensor;
  tensor.storage_ = allocate(bytes_of(shape, dtype));
  tensor.num_elements_ = shape.num_elements();
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype) {
  Tensor tensor = uninitialized(std::move(shape), dtype);
  std::memset(tensor.mutable_bytes(), 0, static_cast<std::size_t>(tensor.num_bytes()));
  return tensor;
}

Tensor Tensor::full(Shape shape, DType dtype, double value) {
  Tensor tensor = uninitialized(std::move(shape), dtype);
  dispatch_any(dtype, [&]<typename T>() {
    std::span<T> data = tensor.mutable_data<T>();
    std::fill(data.begin(), data.end(), static_cast<T>(value));
  });
  return tensor;
}

Tensor Tensor::borrow(Shape shape, DType dtype, std::byte* memory) {
  if (reinterpret_cast<std::uintptr_t>(memory) % kAlignment != 0 || memory == nullptr) {
    throw InvalidArgument(
        "Tensor::borrow",
        fmt::format("memory is not aligned: got address {}, expected a multiple of {}",
                    static_cast<const void*>(memory), kAlignment));
  }
  Tensor tensor;
  tensor.num_elements_ = shape.num_elements();
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  tensor.storage_ = std::shared_ptr<std::byte>(std::shared_ptr<void>(), memory);
  return tensor;
}

Tensor Tensor::viewed_as(Shape shape) const {
  require_not_under_recording("Tensor::viewed_as");
  if (shape.num_elements() != num_elements_) {
    throw InvalidArgument("Tensor::viewed_as",
                          fmt::format("number of elements differs: got {}, expected {} as in {}",
                                      shape.to_string(), num_elements_, shape_.to_string()));
  }
  Tensor view = with_links(nullptr);
  view.shape_ = std::move(shape);
  return view;
}

Tensor Tensor::detached() const {
  require_not_under_recording("Tensor::detached");
  return with_links(nullptr);
}

void Tensor::require_not_under_recording(const char* where) const {
  if (internal::is_under_recording(*this)) {
    throw InvalidArgument(
        where,
        "tensor: got one that a Program is recording, expected another; use reshape and "
        "stop_gradient, and no control flow that depends on values");
  }
}

Tensor Tensor::with_links(std::shared_ptr<const TapeLinks> links) const {
  Tensor tensor = *this;
  tensor.links_ = std::move(links);
  return tensor;
}

void Tensor::rebind(const Tensor& other) {
  SUPERSTEP_CHECK(other.dtype_ == dtype_ && other.num_elements_ == num_elements_,
                  "storage of another type:", other.shape_.to_string(), shape_.to_string());
  storage_ = other.storage_;
}

void Tensor::rebind(const Tensor& other, std::int64_t offset) {
  SUPERSTEP_CHECK(other.dtype_ == dtype_ && offset + num_bytes() <= other.num_bytes(),
                  "storage of another type:", other.shape_.to_string(), shape_.to_string(), offset);
  storage_ = std::shared_ptr<std::byte>(other.storage_, other.storage_.get() + offset);
}

void Tensor::rebind(std::byte* memory) {
  SUPERSTEP_DEBUG_CHECK(reinterpret_cast<std::uintptr_t>(memory) % kAlignment == 0,
                        "memory is not aligned");
  storage_ = std::shared_ptr<std::byte>(std::shared_ptr<void>(), memory);
}

}  // namespace superstep::kernels
