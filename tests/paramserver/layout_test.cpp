#include "paramserver/layout.h"

#include <limits>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"
#include "tests/support/error_text.h"

namespace superstep::paramserver {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

ParameterLayout two_layers() {
  ParameterLayout layout;
  layout.add({.name = "dense1/weight", .shape = {70, 61}});
  layout.add({.name = "dense1/bias", .shape = {61}, .decayed = false});
  layout.add({.name = "norm1/mean", .shape = {3}, .role = EntryRole::kStatistic, .fold = 0.1F});
  layout.freeze();
  return layout;
}

std::string message_of_add(LayoutEntry entry) {
  ParameterLayout layout;
  layout.add({.name = "a", .shape = {2}});
  return error_text<InvalidArgument>([&] { layout.add(std::move(entry)); });
}

TEST(ParameterLayout, StartsEveryEntryOnSixtyFourBytes) {
  const ParameterLayout layout = two_layers();
  EXPECT_EQ(layout.entries()[0].offset, 0);
  EXPECT_EQ(layout.entries()[1].offset, 4272);       // 70 * 61 = 4270, next multiple of 16
  EXPECT_EQ(layout.entries()[2].offset, 4272 + 64);  // 61 -> 64
}

TEST(ParameterLayout, CountsTrainableElementsAndWholeBlocks) {
  const ParameterLayout layout = two_layers();
  EXPECT_EQ(layout.num_parameters(), 70 * 61 + 61);
  EXPECT_EQ(layout.size(), 8192);
  EXPECT_EQ(layout.num_blocks(), 2);
}

TEST(ParameterLayout, TakesScalarsAndExactlyFullBlocks) {
  ParameterLayout layout;
  layout.add({.name = "scale", .shape = {}});
  layout.add({.name = "rest", .shape = {4080}});
  layout.freeze();
  EXPECT_EQ(layout.entries()[1].offset, 16);
  EXPECT_EQ(layout.size(), 4096);
}

TEST(ParameterLayout, RefusesSizeBeforeFreezingAndEntriesAfter) {
  ParameterLayout layout;
  layout.add({.name = "a", .shape = {2}});
  EXPECT_THROW(layout.size(), CheckFailure);
  layout.freeze();
  EXPECT_THROW(layout.add({.name = "b", .shape = {2}}), CheckFailure);
}

TEST(ParameterLayout, RefusesToFreezeWithoutEntries) {
  ParameterLayout layout;
  EXPECT_THROW(layout.freeze(), InvalidArgument);
}

TEST(ParameterLayout, RefusesASecondEntryOfOneName) {
  EXPECT_THAT(message_of_add({.name = "a", .shape = {3}}),
              HasSubstr("two entries are named \"a\""));
}

TEST(ParameterLayout, RefusesNamesThatAreNoPath) {
  for (const char* name : {"", "/a", "b/", "b//c", "..", "b/../c", "b/.", "b c", "b\nc", "b\\c",
                           "b\"", "b'", "\x7f", "\xc3\xa9"}) {
    EXPECT_THAT(message_of_add({.name = name, .shape = {3}}), HasSubstr("bad entry name")) << name;
  }
  EXPECT_EQ(message_of_add({.name = "onnx::Conv_1/w:0", .shape = {3}}), "");
}

TEST(ParameterLayout, RefusesEmptyEntriesAndImpossibleFolds) {
  EXPECT_THAT(message_of_add({.name = "b", .shape = {3, 0}}), HasSubstr("has no elements"));
  for (const float fold : {0.0F, -0.1F, 1.5F, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_THAT(
        message_of_add({.name = "b", .shape = {3}, .role = EntryRole::kStatistic, .fold = fold}),
        HasSubstr("expected 0 < fold <= 1"));
  }
}

TEST(ParameterLayout, RefusesMoreThanCanBeAddressed) {
  EXPECT_THAT(
      message_of_add({.name = "b", .shape = {std::int64_t{1} << 40, std::int64_t{1} << 22}}),
      HasSubstr("too large"));
}

TEST(ParameterLayout, FindsEntriesByNameAndSuggestsTheNearest) {
  const ParameterLayout layout = two_layers();
  EXPECT_EQ(layout.entry("dense1/bias").num_elements(), 61);
  try {
    layout.entry("dense1/weigth");
    FAIL() << "an unknown name was found";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"dense1/weight\"?"));
  }
}

TEST(ParameterLayout, CutsShardsAtBlocksForEveryNumberOfRanks) {
  for (const std::int64_t blocks : {1, 2, 5, 7, 64, 1000}) {
    ParameterLayout layout;
    layout.add({.name = "w", .shape = {blocks * kBlockElements}});
    layout.freeze();
    for (int p = 1; p <= 70; ++p) {
      const std::vector<std::int64_t> cuts = layout.shard_cuts(p);
      ASSERT_EQ(cuts.size(), static_cast<std::size_t>(p) + 1);
      EXPECT_EQ(cuts.front(), 0);
      EXPECT_EQ(cuts.back(), layout.size());
      for (int k = 0; k < p; ++k) {
        const ElementRange shard = layout.shard(k, p);
        EXPECT_EQ(shard.begin, k * blocks / p * kBlockElements);
        EXPECT_EQ(shard.begin, cuts[static_cast<std::size_t>(k)]);
        EXPECT_EQ(shard.end, cuts[static_cast<std::size_t>(k) + 1]);
        EXPECT_LE(shard.length(), (blocks / p + 1) * kBlockElements);
      }
    }
  }
}

TEST(ParameterLayout, CutsShardsOfLayoutsLargerThanAnyMemory) {
  ParameterLayout layout;
  layout.add({.name = "w", .shape = {std::int64_t{1} << 60}});
  layout.freeze();
  constexpr int kRanks = std::numeric_limits<int>::max();
  EXPECT_EQ(layout.shard(kRanks - 1, kRanks).end, layout.size());
  EXPECT_EQ(layout.shard(1 << 30, kRanks).begin,
            static_cast<std::int64_t>((static_cast<long double>(1 << 30) * 0x1p48L) / kRanks) *
                kBlockElements);
}

TEST(ParameterLayout, DescribesEntriesOnePerLine) {
  EXPECT_EQ(two_layers().describe(),
            "dense1/weight (70, 61) trainable decayed\n"
            "dense1/bias (61) trainable undecayed\n"
            "norm1/mean (3) statistic fold=0.100000001\n");
}

TEST(ParameterLayout, ReadsItsOwnDescription) {
  ParameterLayout layout;
  layout.add({.name = "scalar", .shape = {}});
  layout.add({.name = "v", .shape = {5}, .decayed = false});
  layout.add({.name = "m", .shape = {2, 3}, .role = EntryRole::kStatistic, .fold = 0.3F});
  layout.freeze();
  const ParameterLayout parsed = ParameterLayout::parse(layout.describe());
  EXPECT_EQ(parsed.describe(), layout.describe());
  EXPECT_EQ(parsed.size(), layout.size());
  EXPECT_EQ(parsed.entry("m").fold, 0.3F);
  EXPECT_EQ(parsed.entry("m").offset, layout.entry("m").offset);
}

TEST(ParameterLayout, RefusesDescriptionsThatItDoesNotWrite) {
  for (const char* text :
       {"", "w", "w (3)", "w (x) trainable decayed\n", "w (3) trainable\n",
        "w (-3) trainable decayed\n", "w (3) frozen decayed\n", "w (3) statistic fold=x\n",
        "w (3) statistic fold=2\n", "w (99999999999999999999) trainable decayed\n",
        "w (3) trainable decayed\nw (3) trainable decayed\n"}) {
    EXPECT_THROW(ParameterLayout::parse(text), InvalidArgument) << text;
  }
}

TEST(ParameterLayout, HashesEntriesInOrderWithoutPadding) {
  const ParameterLayout layout = two_layers();
  std::vector<float> buffer(static_cast<std::size_t>(layout.size()));
  std::iota(buffer.begin(), buffer.end(), 0.0F);
  std::vector<float> packed(buffer.begin(), buffer.begin() + 4270);
  packed.insert(packed.end(), buffer.begin() + 4272, buffer.begin() + 4272 + 61);
  packed.insert(packed.end(), buffer.begin() + 4336, buffer.begin() + 4336 + 3);
  const Hash128 hash = layout.parameters_hash(buffer);
  EXPECT_EQ(hash, hash_span<float>(packed));
  buffer[4271] = -1.0F;  // padding
  EXPECT_EQ(layout.parameters_hash(buffer), hash);
  buffer[4269] = -1.0F;  // the last element of the first entry
  EXPECT_NE(layout.parameters_hash(buffer), hash);
}

TEST(ParameterLayout, KeepsItsHashAcrossVersions) {
  ParameterLayout layout;
  layout.add({.name = "w", .shape = {2, 2}});
  layout.add({.name = "b", .shape = {1}});
  layout.freeze();
  std::vector<float> buffer(static_cast<std::size_t>(layout.size()), 9.0F);
  const std::vector<float> weights{1.0F, -2.0F, 0.5F, 0.0F};
  std::copy(weights.begin(), weights.end(), buffer.begin());
  buffer[16] = 3.25F;
  EXPECT_EQ(to_text(layout.parameters_hash(buffer)), "xxh3:634a29547b7537bb22e8f6242130e78d");
}

TEST(ParameterLayout, RefusesABufferOfAnotherSize) {
  const ParameterLayout layout = two_layers();
  EXPECT_THROW(layout.parameters_hash(std::vector<float>(8191)), CheckFailure);
}

}  // namespace
}  // namespace superstep::paramserver
