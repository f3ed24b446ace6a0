// XXH3-128 fingerprints of bytes, for integrity and equality, not against an adversary.
//
// The value is the same on every machine: what is hashed is bytes, and numbers enter in
// little-endian order (update_integer). Text is "xxh3:" and 32 hexadecimal digits, the digits as
// xxh128sum prints them.
//
//   Hash128 whole = hash_bytes(bytes);
//   Hasher hasher;
//   hasher.update(first_part);
//   hasher.update(second_part);               // equal to hashing the concatenation
//   CHECK(hasher.digest() == whole);
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace superstep {

// Multi-byte numbers are hashed and written as they lie in memory.
static_assert(std::endian::native == std::endian::little, "big-endian machines are not supported");

struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend bool operator==(const Hash128&, const Hash128&) = default;
  // An order for containers; it means nothing else.
  friend bool operator<(const Hash128& a, const Hash128& b) {
    return a.high != b.high ? a.high < b.high : a.low < b.low;
  }
};

inline constexpr std::int64_t kHashBytes = 16;

// "xxh3:0123456789abcdef0123456789abcdef"
std::string to_text(const Hash128& hash);
// The inverse; throws InvalidArgument for anything to_text does not produce.
Hash128 parse_hash(std::string_view text);

// How a hash lies in a file: low, then high, each little-endian.
std::array<std::byte, kHashBytes> to_bytes(const Hash128& hash);
Hash128 hash_from_bytes(std::span<const std::byte, kHashBytes> bytes);

Hash128 hash_bytes(std::span<const std::byte> bytes);
Hash128 hash_text(std::string_view text);

template <typename T>
requires std::is_trivially_copyable_v<T> && std::is_arithmetic_v<T> Hash128
hash_span(std::span<const T> values) {
  return hash_bytes(std::as_bytes(values));
}

// The hash of a sequence of parts. Move-only, one thread at a time.
class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  template <std::integral T>
  void update_integer(T value) {
    update(std::as_bytes(std::span<const T, 1>(&value, 1)));
  }

  // Of everything since construction or reset(); more may follow.
  Hash128 digest() const;
  void reset();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep
