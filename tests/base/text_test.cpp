#include "base/text.h"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace superstep {
namespace {

TEST(EditDistance, CountsSingleEdits) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("epoch", "epochs"), 1);
}

TEST(EditDistance, SwappedNeighboursCostOne) {
  EXPECT_EQ(edit_distance("sede", "seed"), 1);
  EXPECT_EQ(edit_distance("ab", "ba"), 1);
  EXPECT_EQ(edit_distance("ca", "abc"),
            3);  // of the restricted distance; the unrestricted one is 2
}

TEST(EditDistance, IsSymmetric) {
  const std::vector<std::string> words = {"momentum", "momntum", "nesterov", "adam", "adamw", ""};
  for (const std::string& a : words) {
    for (const std::string& b : words) {
      EXPECT_EQ(edit_distance(a, b), edit_distance(b, a)) << a << ' ' << b;
    }
  }
}

TEST(NearestName, FindsTypingErrorsOnly) {
  const std::vector<std::string> keys = {"learning_rate", "momentum", "epochs", "seed"};
  EXPECT_EQ(nearest_name("lerning_rate", keys), "learning_rate");
  EXPECT_EQ(nearest_name("Epochs", keys), "epochs");
  EXPECT_EQ(nearest_name("sed", keys), "seed");
  EXPECT_EQ(nearest_name("batch", keys), std::nullopt);
  EXPECT_EQ(nearest_name("", keys), std::nullopt);
  EXPECT_EQ(nearest_name("seed", {}), std::nullopt);
}

TEST(NearestName, OfAMegabyteIsNoneAndCostsNothing) {
  const std::vector<std::string> names(1000, "learning_rate");
  EXPECT_EQ(nearest_name(std::string(std::size_t{1} << 20, 'x'), names), std::nullopt);
}

TEST(NearestName, FirstOfEquallyNearNamesWins) {
  EXPECT_EQ(nearest_name("abcd", std::vector<std::string>{"abcx", "abcy"}), "abcx");
}

TEST(DidYouMean, IsAClauseOrNothing) {
  const std::vector<std::string> keys = {"epochs"};
  EXPECT_EQ(did_you_mean("epoch", keys), "; did you mean \"epochs\"?");
  EXPECT_EQ(did_you_mean("verbose", keys), "");
}

TEST(Join, SeparatesNeighbours) {
  EXPECT_EQ(join({}), "");
  EXPECT_EQ(join(std::vector<std::string>{"a"}), "a");
  EXPECT_EQ(join(std::vector<std::string>{"a", "b", "c"}), "a, b, c");
  EXPECT_EQ(join(std::vector<std::string>{"a", "b"}, "/"), "a/b");
}

TEST(HumanBytes, UsesBinaryUnits) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1'023), "1023 B");
  EXPECT_EQ(human_bytes(1'024), "1.00 KiB");
  EXPECT_EQ(human_bytes(1'536), "1.50 KiB");
  EXPECT_EQ(human_bytes(6'653'480), "6.35 MiB");
  EXPECT_EQ(human_bytes((std::int64_t{1} << 30) - 1), "1.00 GiB");
  EXPECT_EQ(human_bytes(-2'048), "-2.00 KiB");
  EXPECT_EQ(human_bytes(std::numeric_limits<std::int64_t>::max()), "8.00 EiB");
}

TEST(HumanCount, UsesDecimalUnits) {
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1'000), "1.00 k");
  EXPECT_EQ(human_count(1'663'370), "1.66 M");
  EXPECT_EQ(human_count(999'999), "1.00 M");
  EXPECT_EQ(human_count(25'557'032), "25.6 M");
}

TEST(Grouped, SeparatesThousands) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1'000), "1,000");
  EXPECT_EQ(grouped(1'663'370), "1,663,370");
  EXPECT_EQ(grouped(-199'210), "-199,210");
  EXPECT_EQ(grouped(-100), "-100");
}

}  // namespace
}  // namespace superstep
