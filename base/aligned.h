// Buffers that start on 64 bytes and end on a padded, zeroed tail.
//
// Vectorised kernels give different bits at different addresses modulo the vector width, so every
// tensor and every shard starts on kAlignmentBytes (one cache line, one AVX-512 register) and owns
// its memory up to the next multiple of it.
//
//   AlignedBuffer<float> sums(1'000);          // zeroed; data() % 64 == 0; 1'008 floats are ours
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep {

inline constexpr std::int64_t kAlignmentBytes = 64;

// Smallest multiple of kAlignmentBytes that holds `bytes`.
constexpr std::int64_t padded_bytes(std::int64_t bytes) {
  return (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

// The same in elements: padded_size<float>(1) == 16.
template <typename T>
constexpr std::int64_t padded_size(std::int64_t num_elements) {
  constexpr auto kElementBytes = static_cast<std::int64_t>(sizeof(T));
  static_assert(kAlignmentBytes % kElementBytes == 0, "elements must divide the alignment");
  return padded_bytes(num_elements * kElementBytes) / kElementBytes;
}

inline bool is_aligned(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % kAlignmentBytes == 0;
}

enum class Fill : std::uint8_t {
  kZero,      // every byte, tail included
  kTailOnly,  // only the padded tail: for buffers that are overwritten at once
};

// Owns padded_size(size) elements. Move-only; a moved-from buffer is empty.
template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  // Throws InvalidArgument for a negative or unaddressable size, std::bad_alloc without memory.
  explicit AlignedBuffer(std::int64_t size, Fill fill = Fill::kZero)
      : data_(allocate(size)), size_(size) {
    const std::int64_t first = fill == Fill::kZero ? 0 : size;
    if (size > 0) {
      std::memset(static_cast<void*>(data_.get() + first), 0,
                  static_cast<std::size_t>(padded() - first) * sizeof(T));
    }
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  // All remain valid until the buffer is destroyed or assigned to; moving the buffer keeps them.
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::span<T> span() { return {data(), static_cast<std::size_t>(size_)}; }
  std::span<const T> span() const { return {data(), static_cast<std::size_t>(size_)}; }
  std::span<T> padded_span() { return {data(), static_cast<std::size_t>(padded())}; }
  std::span<const T> padded_span() const { return {data(), static_cast<std::size_t>(padded())}; }

  T& operator[](std::int64_t index) { return data_[static_cast<std::size_t>(index)]; }
  const T& operator[](std::int64_t index) const { return data_[static_cast<std::size_t>(index)]; }

  std::int64_t size() const { return size_; }
  std::int64_t padded() const { return superstep::padded_size<T>(size_); }
  std::int64_t bytes() const { return padded() * static_cast<std::int64_t>(sizeof(T)); }
  bool empty() const { return size_ == 0; }

 private:
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };

  static T* allocate(std::int64_t size) {
    constexpr std::int64_t kMost =
        (std::numeric_limits<std::int64_t>::max() - kAlignmentBytes) / std::int64_t{sizeof(T)};
    if (size < 0 || size > kMost) {
      throw InvalidArgument(
          "AlignedBuffer", fmt::format("size out of range: got {}, expected 0 to {}", size, kMost));
    }
    if (size == 0) {
      return nullptr;
    }
    void* data = std::aligned_alloc(
        kAlignmentBytes,
        static_cast<std::size_t>(padded_bytes(size * static_cast<std::int64_t>(sizeof(T)))));
    if (data == nullptr) {
      throw std::bad_alloc();
    }
    return static_cast<T*>(data);
  }

  std::unique_ptr<T[], Free> data_;
  std::int64_t size_ = 0;
};

}  // namespace superstep
