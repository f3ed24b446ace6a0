// One array per sharing level: all ranks that share the level see the same memory.
//
// The array is zero-filled, starts on 64 bytes and its space is reserved when it is made: too
// little shared memory is an InvalidArgument that names /dev/shm, the bytes needed and the bytes
// free, never a bus error. Concurrent access is the caller's business: write and read in different
// supersteps.
//
//   bsp::SharedArray<float> parameters(world, layout.size(), bsp::Level::kNode);   // collective
//   parameters.span()[i] = ...;   world.sync();   // now visible to every rank of the node
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

#include "bsp/world.h"

namespace superstep::bsp {

class SharedBytes {
 public:
  // Collective over the world. Every rank of one sharing group gives the same size.
  SharedBytes(World& world, std::int64_t num_bytes, Level level = Level::kNode);
  SharedBytes(SharedBytes&&) noexcept;
  SharedBytes& operator=(SharedBytes&&) noexcept;
  ~SharedBytes();

  std::byte* data() const;
  std::int64_t size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

template <typename T>
class SharedArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  SharedArray(World& world, std::int64_t size, Level level = Level::kNode)
      : bytes_(world, size * static_cast<std::int64_t>(sizeof(T)), level), size_(size) {}

  // Remains valid while this rank's SharedArray lives.
  std::span<T> span() const {
    return {reinterpret_cast<T*>(bytes_.data()), static_cast<std::size_t>(size_)};
  }
  std::int64_t size() const { return size_; }

 private:
  SharedBytes bytes_;
  std::int64_t size_;
};

}  // namespace superstep::bsp
