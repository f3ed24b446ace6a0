#include "base/json_integer.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace superstep {
namespace {

std::optional<std::int64_t> read(std::string_view text, std::int64_t least, std::int64_t most) {
  return json_integer(nlohmann::json::parse(text), least, most);
}

TEST(JsonInteger, TakesIntegersInRange) {
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(read("0", 0, 3), 0);
  EXPECT_EQ(read("3", 0, 3), 3);
  EXPECT_EQ(read("-9223372036854775808", kLeast, kMost), kLeast);
  EXPECT_EQ(read("9223372036854775807", kLeast, kMost), kMost);
  EXPECT_EQ(json_integer(nlohmann::json(2), 0, 3), 2);
}

TEST(JsonInteger, RefusesEverythingElse) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (const char* text : {"-1", "4", "18446744073709551615", "18446744073709551616", "1e300",
                           "1.0", "\"1\"", "null", "true", "[1]", "{}"}) {
    EXPECT_EQ(read(text, 0, 3), std::nullopt) << text;
  }
  EXPECT_EQ(read("18446744073709551615", -5, kMost), std::nullopt);
}

}  // namespace
}  // namespace superstep
