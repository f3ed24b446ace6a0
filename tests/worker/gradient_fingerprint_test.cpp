#include "worker/gradient_fingerprint.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace superstep::worker {
namespace {

using paramserver::SlotSummary;

// Entries that fill no line, one line and some lines.
paramserver::ParameterLayout make_layout() {
  paramserver::ParameterLayout layout;
  layout.add({.name = "few", .shape = {5}});
  layout.add({.name = "one", .shape = {8, 8}});
  layout.add({.name = "many", .shape = {150}});
  layout.freeze();
  return layout;
}

struct Gradient {
  paramserver::ParameterLayout layout = make_layout();
  std::vector<float> values;
  std::vector<SlotSummary> sums{{.num_samples = 4, .num_correct = 1, .loss_sum = 2.5}};

  Gradient() : values(static_cast<std::size_t>(layout.size())) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = std::sin(static_cast<float>(i));
    }
  }
  GradientFingerprint fingerprint() const { return fingerprint_of(layout, values, sums); }
  float& at(const std::string& entry, std::int64_t index) {
    return values[static_cast<std::size_t>(layout.entry(entry).offset + index)];
  }
};

void flip(float& value, int bit) {
  value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) ^ (1U << bit));
}

TEST(GradientFingerprint, HasALineForEverySixtyFourElementsOfAnEntry) {
  const Gradient gradient;
  EXPECT_EQ(num_fingerprint_lines(gradient.layout), 1 + 1 + 3);
  EXPECT_EQ(gradient.fingerprint().lines.size(), 5U);
}

TEST(GradientFingerprint, ChangesWithEveryBitOfEveryElement) {
  Gradient gradient;
  const Hash128 hash = gradient.fingerprint().hash;
  for (const auto& entry : std::vector<paramserver::LayoutEntry>(gradient.layout.entries().begin(),
                                                                 gradient.layout.entries().end())) {
    for (std::int64_t i = 0; i < entry.num_elements(); ++i) {
      const int bit = static_cast<int>(i % 32);
      flip(gradient.at(entry.name, i), bit);
      EXPECT_NE(gradient.fingerprint().hash, hash) << entry.name << " " << i;
      flip(gradient.at(entry.name, i), bit);
    }
  }
  EXPECT_EQ(gradient.fingerprint().hash, hash);
}

TEST(GradientFingerprint, LeavesPaddingOutAndTakesTheSumsOfSlotsIn) {
  Gradient gradient;
  const Hash128 hash = gradient.fingerprint().hash;
  gradient.at("few", 5) = 17.0F;  // padding
  EXPECT_EQ(gradient.fingerprint().hash, hash);
  gradient.sums[0].loss_sum = 2.75;
  EXPECT_NE(gradient.fingerprint().hash, hash);
  gradient.sums[0] = {.num_samples = 4, .num_correct = 2, .loss_sum = 2.5};
  EXPECT_NE(gradient.fingerprint().hash, hash);
}

TEST(GradientFingerprint, NothingDiffersBetweenEqualGradients) {
  const Gradient gradient;
  EXPECT_FALSE(first_difference(gradient.layout, gradient.fingerprint().lines, gradient.values,
                                gradient.values)
                   .has_value());
}

TEST(GradientFingerprint, FindsTheBitThatFlippedInAGradientThatIsGone) {
  for (const std::int64_t element : {0, 63, 64, 149}) {
    for (const int bit : {0, 22, 30, 31}) {
      Gradient theirs;
      flip(theirs.at("many", element), bit);
      Gradient ours;
      const auto found =
          first_difference(ours.layout, theirs.fingerprint().lines, ours.values, ours.values);
      ASSERT_TRUE(found.has_value());
      EXPECT_EQ(found->entry, "many");
      EXPECT_EQ(found->first, element);
      EXPECT_EQ(found->last, element);
      ASSERT_TRUE(found->theirs.has_value());
      EXPECT_EQ(std::bit_cast<std::uint32_t>(*found->theirs),
                std::bit_cast<std::uint32_t>(theirs.at("many", element)));
      EXPECT_EQ(found->ours, ours.at("many", element));
    }
  }
}

TEST(GradientFingerprint, TakesTheValueFromASecondTryThatIsTheSame) {
  Gradient theirs;
  theirs.at("many", 70) = 1e6F;
  theirs.at("many", 71) = std::numeric_limits<float>::infinity();
  Gradient ours;
  const auto found =
      first_difference(ours.layout, theirs.fingerprint().lines, theirs.values, ours.values);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->first, 70);
  EXPECT_EQ(found->theirs, 1e6F);
}

TEST(GradientFingerprint, NamesTheLineWhereTheValueIsNotKnown) {
  Gradient theirs;
  theirs.at("many", 70) = 1e6F;
  theirs.at("many", 71) = 2e6F;
  Gradient ours;
  const auto found =
      first_difference(ours.layout, theirs.fingerprint().lines, ours.values, ours.values);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->entry, "many");
  EXPECT_EQ(found->first, 64);
  EXPECT_EQ(found->last, 127);
  EXPECT_FALSE(found->theirs.has_value());
}

}  // namespace
}  // namespace superstep::worker
