#include "base/checked_cast.h"

#include <cstdint>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/error_text.h"

namespace superstep {
namespace {

using testing::error_text;

template <typename To, typename From>
std::string refusal(From value) {
  return error_text<InvalidArgument>([&] { checked_cast<To>(value, "element count"); });
}

TEST(CheckedCast, KeepsValuesThatFit) {
  EXPECT_EQ(checked_cast<int>(std::int64_t{2'147'483'647}), 2'147'483'647);
  EXPECT_EQ(checked_cast<int>(std::int64_t{-2'147'483'648}), std::numeric_limits<int>::min());
  EXPECT_EQ(checked_cast<std::uint8_t>(255), 255);
  EXPECT_EQ(checked_cast<std::size_t>(std::int64_t{0}), 0U);
  EXPECT_EQ(checked_cast<std::int64_t>(std::uint64_t{9'223'372'036'854'775'807U}),
            std::numeric_limits<std::int64_t>::max());
}

TEST(CheckedCast, RefusesOneBeyondEitherEnd) {
  EXPECT_EQ(refusal<int>(std::int64_t{2'147'483'648}),
            "[checked_cast] element count out of range: got 2147483648, expected -2147483648 to "
            "2147483647");
  EXPECT_NE(refusal<int>(std::int64_t{-2'147'483'649}), "");
  EXPECT_NE(refusal<std::uint8_t>(256), "");
  EXPECT_NE(refusal<std::int64_t>(std::uint64_t{9'223'372'036'854'775'808U}), "");
}

TEST(CheckedCast, RefusesNegativeForUnsigned) {
  EXPECT_EQ(refusal<std::uint32_t>(-1),
            "[checked_cast] element count out of range: got -1, expected 0 to 4294967295");
  EXPECT_NE(refusal<std::uint64_t>(std::int8_t{-1}), "");
}

TEST(CheckedCast, WorksAtCompileTime) {
  static_assert(checked_cast<std::int16_t>(std::int64_t{-3}) == -3);
  static_assert(!CheckedInteger<bool> && !CheckedInteger<char> && CheckedInteger<unsigned char>);
}

}  // namespace
}  // namespace superstep
