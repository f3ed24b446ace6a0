// Asks for memory ahead of its use, into second-level cache.
//
// Always inlined: g++ leaves out calls of functions that do nothing but fetch. Addresses need not
// be valid.
#pragma once

#include <cstddef>
#include <cstdint>

namespace superstep {

// Every line of [from, from + count).
template <typename T>
[[gnu::always_inline]] inline void prefetch(const T* from, std::int64_t count) {
  constexpr std::int64_t kLineBytes = 64;
  constexpr int kRead = 0;
  constexpr int kSecondLevel = 2;
  const auto* bytes = reinterpret_cast<const std::byte*>(from);
  const std::int64_t size = count * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t offset = 0; offset < size; offset += kLineBytes) {
    __builtin_prefetch(bytes + offset, kRead, kSecondLevel);
  }
}

}  // namespace superstep
