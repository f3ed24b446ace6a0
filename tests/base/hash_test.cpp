#include "base/hash.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep {
namespace {

std::vector<std::byte> counting_bytes(std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) {
    bytes[i] = static_cast<std::byte>(i * 131 >> 3);
  }
  return bytes;
}

// Printed by xxh128sum 0.8.1 for the same bytes.
TEST(Hash, MatchesTheReferenceTool) {
  EXPECT_EQ(to_text(hash_text("")), "xxh3:99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(to_text(hash_text("superstep")), "xxh3:a8d27d0185e255a1abf82bd81a402c90");
  EXPECT_EQ(to_text(hash_bytes(counting_bytes(1'000))), "xxh3:751893d15ef9dc9e9f911236d1a02bd7");
}

TEST(Hash, StreamEqualsOneShotWhereverItIsCut) {
  const std::vector<std::byte> bytes = counting_bytes(2'000);
  const Hash128 whole = hash_bytes(bytes);
  for (const std::size_t part : {1U, 7U, 64U, 255U, 256U, 257U, 1'024U, 2'000U}) {
    Hasher hasher;
    for (std::size_t begin = 0; begin < bytes.size(); begin += part) {
      hasher.update(std::span(bytes).subspan(begin, std::min(part, bytes.size() - begin)));
    }
    EXPECT_EQ(hasher.digest(), whole) << "parts of " << part;
  }
}

TEST(Hash, EmptyPartsChangeNothing) {
  EXPECT_EQ(hash_bytes(std::span<const std::byte>()), hash_text(""));
  Hasher hasher;
  hasher.update(std::span<const std::byte>());
  EXPECT_EQ(hasher.digest(), hash_text(""));
  hasher.update("a");
  hasher.update("");
  EXPECT_EQ(hasher.digest(), hash_text("a"));
}

TEST(Hash, DigestDoesNotEndTheStreamAndResetDoes) {
  Hasher hasher;
  hasher.update("super");
  EXPECT_EQ(hasher.digest(), hash_text("super"));
  hasher.update("step");
  EXPECT_EQ(hasher.digest(), hash_text("superstep"));
  hasher.reset();
  EXPECT_EQ(hasher.digest(), hash_text(""));
}

TEST(Hash, IntegersEnterInLittleEndianOrder) {
  Hasher hasher;
  hasher.update_integer(std::uint32_t{0x64636261});
  EXPECT_EQ(hasher.digest(), hash_text("abcd"));
}

TEST(Hash, EverySingleBitFlipIsSeen) {
  std::vector<std::byte> bytes = counting_bytes(300);
  std::set<Hash128> seen{hash_bytes(bytes)};
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    EXPECT_TRUE(seen.insert(hash_bytes(bytes)).second) << "bit " << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
}

TEST(Hash, SpanOfNumbersHashesItsBytes) {
  const std::array<float, 2> values = {1.0F, -2.0F};
  EXPECT_EQ(hash_span(std::span<const float>(values)),
            hash_bytes(std::as_bytes(std::span(values))));
}

TEST(Hash, TextAndBytesRoundTrip) {
  const Hash128 hash{.low = 0x0123456789abcdef, .high = 0x00000000000000ff};
  EXPECT_EQ(to_text(hash), "xxh3:00000000000000ff0123456789abcdef");
  EXPECT_EQ(parse_hash(to_text(hash)), hash);
  const auto bytes = to_bytes(hash);
  EXPECT_EQ(bytes[0], std::byte{0xef});
  EXPECT_EQ(bytes[8], std::byte{0xff});
  EXPECT_EQ(hash_from_bytes(bytes), hash);
}

TEST(Hash, MalformedTextIsRefused) {
  const std::string good = "xxh3:00000000000000ff0123456789abcdef";
  for (const std::string& bad :
       {std::string(), good.substr(5), good.substr(0, good.size() - 1), good + "0",
        "xxh4" + good.substr(4), "xxh3:" + std::string(31, '0') + "g",
        "xxh3:" + std::string(31, '0') + "A", "xxh3:-" + std::string(31, '0')}) {
    EXPECT_THROW(parse_hash(bad), InvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace superstep
