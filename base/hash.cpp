#include "base/hash.h"

#include <charconv>
#include <cstring>
#include <string>
#include <system_error>

#include <fmt/format.h>

// Compiled in for this processor: the library's is for all of them, at half the speed.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep {

namespace {

constexpr std::string_view kPrefix = "xxh3:";
constexpr std::size_t kHexDigits = 16;  // of one 64-bit half

Hash128 from_xxh(XXH128_hash_t hash) {
  return {.low = hash.low64, .high = hash.high64};
}

bool parse_half(std::string_view digits, std::uint64_t& value) {
  // from_chars takes upper case; to_text never writes it.
  for (const char c : digits) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
      return false;
    }
  }
  return std::from_chars(digits.data(), digits.data() + digits.size(), value, 16).ec == std::errc();
}

}  // namespace

std::string to_text(const Hash128& hash) {
  return fmt::format("{}{:016x}{:016x}", kPrefix, hash.high, hash.low);
}

Hash128 parse_hash(std::string_view text) {
  Hash128 hash;
  if (text.size() == kPrefix.size() + 2 * kHexDigits && text.starts_with(kPrefix) &&
      parse_half(text.substr(kPrefix.size(), kHexDigits), hash.high) &&
      parse_half(text.substr(kPrefix.size() + kHexDigits), hash.low)) {
    return hash;
  }
  throw InvalidArgument("parse_hash",
                        fmt::format("not a hash: got \"{}\", expected \"xxh3:\" and 32 lower-case "
                                    "hexadecimal digits",
                                    text));
}

std::array<std::byte, kHashBytes> to_bytes(const Hash128& hash) {
  std::array<std::byte, kHashBytes> bytes{};
  std::memcpy(bytes.data(), &hash.low, sizeof hash.low);
  std::memcpy(bytes.data() + sizeof hash.low, &hash.high, sizeof hash.high);
  return bytes;
}

Hash128 hash_from_bytes(std::span<const std::byte, kHashBytes> bytes) {
  Hash128 hash;
  std::memcpy(&hash.low, bytes.data(), sizeof hash.low);
  std::memcpy(&hash.high, bytes.data() + sizeof hash.low, sizeof hash.high);
  return hash;
}

Hash128 hash_bytes(std::span<const std::byte> bytes) {
  return from_xxh(XXH3_128bits(bytes.data(), bytes.size()));
}

Hash128 hash_text(std::string_view text) {
  return hash_bytes(std::as_bytes(std::span(text.data(), text.size())));
}

struct Hasher::State {
  XXH3_state_t xxh;
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  reset();
}

Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::update(std::span<const std::byte> bytes) {
  if (bytes.empty()) {
    return;  // a null pointer with length zero is an error to the library
  }
  SUPERSTEP_CHECK(XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size()) == XXH_OK);
}

void Hasher::update(std::string_view text) {
  update(std::as_bytes(std::span(text.data(), text.size())));
}

Hash128 Hasher::digest() const {
  return from_xxh(XXH3_128bits_digest(&state_->xxh));
}

void Hasher::reset() {
  SUPERSTEP_CHECK(XXH3_128bits_reset(&state_->xxh) == XXH_OK);
}

}  // namespace superstep
