// Cut points, histograms and splits against values worked out by hand or by a naive reference.
#include "worker/estimator/split.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"
#include "worker/estimator/bin_matrix.h"
#include "worker/estimator/cut_points.h"
#include "worker/estimator/gradient_histogram.h"
#include "worker/estimator/objective.h"

namespace superstep::worker {
namespace {

using cut_steps::WeightedValue;
using ::testing::ElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<WeightedValue> points_of(std::vector<float> values) {
  std::vector<WeightedValue> points;
  for (const float value : values) {
    points.push_back({.value = value, .weight = 1});
  }
  cut_steps::unite(points);
  return points;
}

TEST(CutPoints, UniteAddsUpEqualValues) {
  EXPECT_THAT(points_of({3, 1, 3, 2, 3}),
              ElementsAre(WeightedValue{1, 1}, WeightedValue{2, 1}, WeightedValue{3, 3}));
}

TEST(CutPoints, FewValuesGetABinEach) {
  EXPECT_THAT(cut_steps::choose_cuts(points_of({5, 1, 3, 3}), 3), ElementsAre(1, 3, 5));
  EXPECT_THAT(cut_steps::choose_cuts(points_of({5}), 3), ElementsAre(5));
  EXPECT_TRUE(cut_steps::choose_cuts({}, 3).empty());
}

TEST(CutPoints, ManyValuesGetBinsOfEqualWeight) {
  std::vector<float> values(100);
  std::iota(values.begin(), values.end(), 0.0F);
  EXPECT_THAT(cut_steps::choose_cuts(points_of(values), 4), ElementsAre(0, 25, 50, 75));
}

TEST(CutPoints, HeavyValuesGetBinsOfTheirOwn) {
  std::vector<WeightedValue> points = {{0, 1}, {1, 1}, {2, 1}, {3, 1000}, {4, 1}, {5, 1}, {6, 1}};
  EXPECT_THAT(cut_steps::choose_cuts(points, 4), ElementsAre(0, 3, 4, 6));
}

TEST(CutPoints, SummariesKeepRanksWithinTheirBound) {
  constexpr int kBins = 16;
  constexpr std::int64_t kValues = 20'000;
  const PhiloxStream stream(1, stream_id("cuts"));
  std::vector<float> values(kValues);
  fill_normal(values, stream, 0.0F, 1.0F);
  std::vector<WeightedValue> merged;
  constexpr std::size_t kParts = 10;
  for (std::size_t part = 0; part < kParts; ++part) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(part * kValues / kParts);
    const auto runs = cut_steps::summarise(points_of({begin, begin + kValues / kParts}), 8 * kBins);
    EXPECT_LE(runs.size(), 8U * kBins);
    merged.insert(merged.end(), runs.begin(), runs.end());
  }
  cut_steps::unite(merged);
  std::int64_t weight = 0;
  for (const WeightedValue& point : merged) {
    weight += point.weight;
  }
  EXPECT_EQ(weight, kValues);
  const std::vector<float> cuts = cut_steps::choose_cuts(merged, kBins);
  ASSERT_EQ(cuts.size(), static_cast<std::size_t>(kBins));
  std::sort(values.begin(), values.end());
  constexpr double kMean = static_cast<double>(kValues) / kBins;
  for (std::size_t bin = 1; bin < cuts.size(); ++bin) {
    const auto below = std::lower_bound(values.begin(), values.end(), cuts[bin]) - values.begin();
    // A quarter of a bin from the summaries, and the run that closed the bin.
    EXPECT_NEAR(static_cast<double>(below), kMean * static_cast<double>(bin), 0.5 * kMean) << bin;
  }
}

TEST(CutPoints, BinsHoldWhatIsBelowTheNextCut) {
  FeatureCuts cuts;
  cuts.lower = {-1.0F, 0.0F, 2.5F, 7.0F};
  cuts.above = 14.0F;
  const auto naive = [&](float value) {
    int bin = 0;
    while (bin + 1 < cuts.num_bins() && value >= cuts.threshold(bin)) {
      ++bin;
    }
    return bin;
  };
  for (const float value : {-9.0F, -1.0F, -0.5F, 0.0F, 1.0F, 2.5F, 6.9F, 7.0F, 100.0F}) {
    EXPECT_EQ(cuts.bin_of(value), naive(value)) << value;
  }
  EXPECT_EQ(cuts.bin_of(kNan), 4);
  EXPECT_EQ(cuts.threshold(3), 14.0F);
}

Table small_table() {
  Table table;
  table.columns = {{.name = "x",
                    .kind = ColumnKind::kNumber,
                    .values = {1, 2, kNan, 1, 3},
                    .vocabulary = {},
                    .missing = 1},
                   {.name = "c",
                    .kind = ColumnKind::kCategory,
                    .values = {0, 1, 1, 2, 0},
                    .vocabulary = {"a", "b", "c"}}};
  table.num_rows = table.total_rows = 5;
  table.part_rows = {5};
  return table;
}

std::vector<FeatureCuts> small_cuts() {
  FeatureCuts number;
  number.lower = {1, 2, 3};
  number.above = 6.0F;
  number.has_missing = true;
  FeatureCuts category;
  category.lower = {0, 1, 2};
  category.is_category = true;
  return {number, category};
}

TEST(GradientHistogram, AddsUpExactly) {
  const Table table = small_table();
  const std::vector<FeatureCuts> cuts = small_cuts();
  const std::vector<std::size_t> features = {0, 1};
  const BinMatrix bins(table, features, cuts);
  EXPECT_EQ(bins.total_bins(), 7U);
  const FixedPoint unit = fixed_point({.gradient = 4.0, .hessian = 1.0}, 5);
  std::vector<PackedDerivatives> packed;
  for (const float g : {0.5F, -1.0F, 2.0F, 3.0F, -4.0F}) {
    packed.push_back(pack({.gradient = g, .hessian = 0.25F}, unit));
  }
  packed[4] = {};  // does not count
  std::vector<GradientSum> sums(bins.total_bins());
  const std::vector<std::uint32_t> rows = {0, 1, 2, 3, 4};
  HistogramBuilder(bins).build(rows, packed, sums);
  const auto expect = [&](std::size_t bin, double g, double h, std::int64_t count) {
    EXPECT_EQ(static_cast<double>(sums[bin].gradient) * unit.gradient_unit, g) << bin;
    EXPECT_EQ(static_cast<double>(sums[bin].hessian) * unit.hessian_unit, h) << bin;
    EXPECT_EQ(sums[bin].count, count) << bin;
  };
  expect(0, 3.5, 0.5, 2);
  expect(1, -1.0, 0.25, 1);
  expect(2, 0.0, 0.0, 0);
  expect(3, 2.0, 0.25, 1);  // no value
  expect(4, 0.5, 0.25, 1);
  expect(5, 1.0, 0.5, 2);
  expect(6, 3.0, 0.25, 1);
}

TEST(GradientHistogram, SumsOfManyExtremeRowsDoNotOverflow) {
  Table table;
  constexpr std::int64_t kRows = 200'000;  // several chunks
  table.columns = {{.name = "x",
                    .kind = ColumnKind::kNumber,
                    .values = std::vector<float>(kRows, 1.0F),
                    .vocabulary = {}}};
  table.num_rows = table.total_rows = kRows;
  FeatureCuts cut;
  cut.lower = {1.0F};
  const std::vector<FeatureCuts> cuts = {cut};
  const std::vector<std::size_t> features = {0};
  const BinMatrix bins(table, features, cuts);
  for (const double bound : {1.0, 0.25, 3e9, 1e-9}) {
    const FixedPoint unit = fixed_point({.gradient = bound, .hessian = bound}, kRows);
    const auto value = static_cast<float>(bound);
    const std::vector<PackedDerivatives> packed(kRows,
                                                pack({.gradient = -value, .hessian = value}, unit));
    std::vector<std::uint32_t> rows(kRows);
    std::iota(rows.begin(), rows.end(), 0U);
    std::vector<GradientSum> sums(1);
    HistogramBuilder(bins).build(rows, packed, sums);
    EXPECT_EQ(sums[0].count, kRows);
    const double total = static_cast<double>(value) * kRows;
    EXPECT_NEAR(static_cast<double>(sums[0].gradient) * unit.gradient_unit, -total, 1e-9 * total);
    EXPECT_NEAR(static_cast<double>(sums[0].hessian) * unit.hessian_unit, total, 1e-8 * total);
  }
  EXPECT_THROW(fixed_point({.gradient = 0.0, .hessian = 1.0}, 1), InvalidArgument);
  EXPECT_THROW(fixed_point({.gradient = 1.0, .hessian = 1.0}, 0), InvalidArgument);
}

// Sums with a unit of 1.
GradientSum sum_of(int g, int h, int count) {
  return {.gradient = g, .hessian = h, .count = count};
}

TEST(SplitFinder, FindsTheBestCutOfANumber) {
  const std::vector<FeatureCuts> cuts = small_cuts();
  SplitRules rules;
  const SplitFinder finder(cuts, rules, FixedPoint{});
  const std::vector<GradientSum> histogram = {sum_of(-4, 2, 2), sum_of(-2, 2, 2), sum_of(5, 2, 2),
                                              sum_of(3, 1, 1)};
  SplitNode node{.total = sum_of(2, 7, 7)};
  Split best;
  finder.search(0, histogram, node, best);
  // Left: bins 0 and 1, G = -6, H = 4; right with the missing one: G = 8, H = 3.
  EXPECT_DOUBLE_EQ(best.gain, 36.0 / 5.0 + 64.0 / 4.0 - 4.0 / 8.0);
  EXPECT_EQ(best.bin, 1);
  EXPECT_FALSE(best.default_left);
  EXPECT_EQ(best.left, sum_of(-6, 4, 4));
  EXPECT_DOUBLE_EQ(finder.weight(node), -2.0 / 8.0);
}

TEST(SplitFinder, LearnsWhereMissingValuesGo) {
  const std::vector<FeatureCuts> cuts = small_cuts();
  SplitRules rules;
  const SplitFinder finder(cuts, rules, FixedPoint{});
  const std::vector<GradientSum> histogram = {sum_of(-4, 2, 2), sum_of(0, 0, 0), sum_of(5, 2, 2),
                                              sum_of(-3, 1, 1)};
  SplitNode node{.total = sum_of(-2, 5, 5)};
  Split best;
  finder.search(0, histogram, node, best);
  EXPECT_DOUBLE_EQ(best.gain, 49.0 / 4.0 + 25.0 / 3.0 - 4.0 / 6.0);
  EXPECT_TRUE(best.default_left);
  EXPECT_EQ(best.bin, 1);  // the threshold is the smallest value on the right
  EXPECT_EQ(best.left, sum_of(-7, 3, 3));
}

TEST(SplitFinder, KeepsTheEarlierOfEqualSplits) {
  std::vector<FeatureCuts> cuts = small_cuts();
  cuts[1] = cuts[0];
  SplitRules rules;
  const SplitFinder finder(cuts, rules, FixedPoint{});
  const std::vector<GradientSum> histogram = {sum_of(-4, 2, 2), sum_of(0, 0, 0), sum_of(4, 2, 2),
                                              sum_of(0, 0, 0)};
  SplitNode node{.total = sum_of(0, 4, 4)};
  Split best;
  finder.search(0, histogram, node, best);
  finder.search(1, histogram, node, best);
  EXPECT_EQ(best.feature, 0);
  EXPECT_EQ(best.bin, 0);  // the empty bin is on the right
}

TEST(SplitFinder, ObeysItsRules) {
  const std::vector<FeatureCuts> cuts = small_cuts();
  const std::vector<GradientSum> histogram = {sum_of(-4, 2, 2), sum_of(-2, 2, 2), sum_of(5, 2, 2),
                                              sum_of(0, 0, 0)};
  const SplitNode node{.total = sum_of(-1, 6, 6)};
  const auto found = [&](const SplitRules& rules) {
    Split best;
    SplitFinder(cuts, rules, FixedPoint{}).search(0, histogram, node, best);
    return best;
  };
  EXPECT_TRUE(found({}).exists());
  SplitRules rules;
  rules.gamma = found({}).gain + 1e-9;
  EXPECT_FALSE(found(rules).exists());
  rules = {};
  rules.min_child_weight = 2.5;
  EXPECT_FALSE(found(rules).exists());
  rules = {};
  rules.monotone = {-1, 0};  // the weights of the left are larger: falling is what they do
  EXPECT_TRUE(found(rules).exists());
  rules.monotone = {1, 0};
  EXPECT_FALSE(found(rules).exists());
}

// The best of all subsets, by trying them.
double best_subset_gain(const std::vector<GradientSum>& histogram, const GradientSum& total) {
  double best = 0.0;
  for (unsigned set = 1; set + 1 < 1U << histogram.size(); ++set) {
    GradientSum right;
    for (std::size_t c = 0; c < histogram.size(); ++c) {
      if ((set >> c & 1U) != 0) {
        right += histogram[c];
      }
    }
    const GradientSum left = total - right;
    const auto score = [](const GradientSum& sum) {
      return static_cast<double>(sum.gradient) * static_cast<double>(sum.gradient) /
             static_cast<double>(sum.hessian);
    };
    best = std::max(best, score(left) + score(right) - score(total));
  }
  return best;
}

TEST(SplitFinder, FindsTheBestOfAllSetsOfCategories) {
  FeatureCuts category;
  category.is_category = true;
  category.lower.resize(8);
  const std::vector<FeatureCuts> cuts = {category};
  SplitRules rules;
  rules.lambda = 0.0;  // Fisher's theorem needs the plain quotient
  rules.min_child_weight = 0.0;
  const SplitFinder finder(cuts, rules, FixedPoint{});
  PhiloxStream stream(3, stream_id("categories"));
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<GradientSum> histogram;
    GradientSum total;
    for (int c = 0; c < category.num_bins(); ++c) {
      const int count = 1 + static_cast<int>(stream.below(5));
      histogram.push_back(sum_of(static_cast<int>(stream.below(41)) - 20, count, count));
      total += histogram.back();
    }
    Split best;
    finder.search(0, histogram, {.total = total}, best);
    const double expected = best_subset_gain(histogram, total);
    EXPECT_NEAR(best.gain, expected, 1e-12 * std::max(1.0, expected)) << trial;
    GradientSum left = total;
    for (std::size_t c = 0; c < histogram.size(); ++c) {
      if ((best.set[0] >> c & 1U) != 0) {
        left = left - histogram[c];
      }
    }
    EXPECT_EQ(left, best.left);
  }
}

TEST(SplitFinder, SplitsFewCategoriesOneAgainstTheRest) {
  FeatureCuts category;
  category.is_category = true;
  category.has_missing = true;
  category.lower.resize(3);
  const std::vector<FeatureCuts> cuts = {category};
  SplitRules rules;
  const std::vector<GradientSum> histogram = {sum_of(1, 2, 2), sum_of(-6, 3, 3), sum_of(2, 2, 2),
                                              sum_of(-3, 1, 1)};
  Split best;
  SplitFinder(cuts, rules, FixedPoint{}).search(0, histogram, {.total = sum_of(-6, 8, 8)}, best);
  EXPECT_EQ(best.set[0], 2U);
  EXPECT_FALSE(best.default_left);  // with the category
  EXPECT_EQ(best.left, sum_of(3, 4, 4));
}

TEST(Split, TravelsWhole) {
  Split split;
  split.gain = 1.0 / 3.0;
  split.feature = 7;
  split.bin = 3;
  split.default_left = true;
  split.is_categorical = true;
  split.left = sum_of(-5, 6, 7);
  split.set = {std::uint64_t{1} << 63, 5};
  std::vector<std::int64_t> words(split_words(2));
  write_split(split, words);
  const Split read = read_split(words);
  EXPECT_EQ(read.gain, split.gain);
  EXPECT_EQ(read.feature, 7);
  EXPECT_EQ(read.bin, 3);
  EXPECT_TRUE(read.default_left);
  EXPECT_EQ(read.left, split.left);
  EXPECT_EQ(read.set, split.set);
  write_split(Split{}, words);
  EXPECT_FALSE(read_split(words).exists());
}

TEST(Objective, DerivativesAreThoseOfTheLoss) {
  // Central differences of the loss in float64; the step's error is about 1e-6.
  constexpr float kStep = 1.0F / 1024.0F;
  for (const Objective objective :
       {Objective::kBinaryLogistic, Objective::kMulticlass, Objective::kSquaredError}) {
    const auto outputs = static_cast<std::size_t>(num_outputs(objective, 3));
    for (const float label : {0.0F, 1.0F}) {
      std::vector<float> margins = {0.75F, -1.5F, 0.25F};
      margins.resize(outputs);
      std::vector<Derivatives> found(outputs);
      derivatives(objective, margins, label, found);
      for (std::size_t k = 0; k < outputs; ++k) {
        std::vector<float> up = margins;
        std::vector<float> down = margins;
        up[k] += kStep;
        down[k] -= kStep;
        const double middle = loss(objective, margins, label);
        const double above = loss(objective, up, label);
        const double below = loss(objective, down, label);
        EXPECT_NEAR(found[k].gradient, (above - below) / (2.0 * kStep), 2e-6);
        const double second = (above - 2.0 * middle + below) / (double{kStep} * kStep);
        const double factor = objective == Objective::kMulticlass ? 2.0 : 1.0;
        EXPECT_NEAR(found[k].hessian, factor * second, 1e-4);
      }
    }
  }
  for (const std::string& name : objective_names()) {
    EXPECT_EQ(name_of(objective_of(name)), name);
  }
  EXPECT_THROW(objective_of("poisson"), InvalidArgument);
  EXPECT_THROW(base_margin(Objective::kBinaryLogistic, 1.0), InvalidArgument);
}

}  // namespace
}  // namespace superstep::worker
