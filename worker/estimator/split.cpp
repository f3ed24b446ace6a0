#include "worker/estimator/split.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <numeric>

namespace superstep::worker {

namespace {

// A gain that is no more than this is rounding (XGBoost's value).
constexpr double kLeastGain = 1e-6;
constexpr std::size_t kFixedWords = 7;
constexpr std::int64_t kDefaultLeft = 1;
constexpr std::int64_t kCategorical = 2;

std::vector<std::uint64_t> set_of(std::span<const int> categories, int num_categories) {
  std::vector<std::uint64_t> set((static_cast<std::size_t>(num_categories) + 63) / 64);
  for (const int category : categories) {
    const auto bit = static_cast<std::size_t>(category);
    set[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  return set;
}

}  // namespace

struct SplitFinder::Candidate {
  double unsplit = 0.0;  // score of the node as it is
  int feature = -1;
  int bin = -1;
  bool default_left = false;
  bool is_categorical = false;
  GradientSum left;
};

void SplitFinder::search(int feature, std::span<const GradientSum> histogram, const SplitNode& node,
                         Split& best) const {
  const FeatureCuts& cuts = cuts_[static_cast<std::size_t>(feature)];
  if (!cuts.is_category) {
    search_number(feature, histogram, node, best);
  } else if (cuts.num_bins() < rules_.max_cat_to_onehot) {
    search_one_against_rest(feature, histogram, node, best);
  } else {
    search_sets(feature, histogram, node, best);
  }
}

// Bins without rows are passed over: a cut on their other side makes the same two sides.
void SplitFinder::search_number(int feature, std::span<const GradientSum> histogram,
                                const SplitNode& node, Split& best) const {
  const FeatureCuts& cuts = cuts_[static_cast<std::size_t>(feature)];
  const GradientSum missing =
      cuts.has_missing ? histogram[static_cast<std::size_t>(cuts.missing_bin())] : GradientSum{};
  Candidate candidate{.unsplit = score(node.total, node), .feature = feature, .left = {}};
  for (int bin = 0; bin < cuts.num_bins(); ++bin) {
    const GradientSum& sum = histogram[static_cast<std::size_t>(bin)];
    if (sum.count == 0) {
      continue;
    }
    candidate.left += sum;
    candidate.bin = bin;
    consider(candidate, node, best);
  }
  if (missing.count == 0) {
    return;
  }
  candidate.default_left = true;
  GradientSum right;
  for (int bin = cuts.num_bins() - 1; bin > 0; --bin) {
    const GradientSum& sum = histogram[static_cast<std::size_t>(bin)];
    if (sum.count == 0) {
      continue;
    }
    right += sum;
    candidate.left = node.total - right;
    candidate.bin = bin - 1;
    consider(candidate, node, best);
  }
}

void SplitFinder::search_one_against_rest(int feature, std::span<const GradientSum> histogram,
                                          const SplitNode& node, Split& best) const {
  const FeatureCuts& cuts = cuts_[static_cast<std::size_t>(feature)];
  const GradientSum missing =
      cuts.has_missing ? histogram[static_cast<std::size_t>(cuts.missing_bin())] : GradientSum{};
  for (int category = 0; category < cuts.num_bins(); ++category) {
    const GradientSum& right = histogram[static_cast<std::size_t>(category)];
    if (right.count == 0) {
      continue;
    }
    Candidate candidate{.unsplit = score(node.total, node),
                        .feature = feature,
                        .default_left = true,
                        .is_categorical = true,
                        .left = node.total - right};
    bool is_best = consider(candidate, node, best);
    if (missing.count > 0) {
      candidate.default_left = false;
      candidate.left = candidate.left - missing;
      is_best = consider(candidate, node, best) || is_best;
    }
    if (is_best) {
      best.set = set_of(std::span<const int>(&category, 1), cuts.num_bins());
    }
  }
}

void SplitFinder::search_sets(int feature, std::span<const GradientSum> histogram,
                              const SplitNode& node, Split& best) const {
  const FeatureCuts& cuts = cuts_[static_cast<std::size_t>(feature)];
  const int num_categories = cuts.num_bins();
  std::vector<double> weights;
  weights.reserve(static_cast<std::size_t>(num_categories));
  for (int category = 0; category < num_categories; ++category) {
    weights.push_back(weight({.total = histogram[static_cast<std::size_t>(category)]}));
  }
  std::vector<int> sorted(static_cast<std::size_t>(num_categories));
  std::iota(sorted.begin(), sorted.end(), 0);
  std::stable_sort(sorted.begin(), sorted.end(), [&](int a, int b) {
    return weights[static_cast<std::size_t>(a)] < weights[static_cast<std::size_t>(b)];
  });
  const int tried = std::min(rules_.max_cat_threshold, num_categories) - 1;
  std::size_t set_size = 0;  // of the best, 0: none of this feature
  // The set grows from the lightest category on; missing values stay on the left.
  Candidate candidate{.unsplit = score(node.total, node),
                      .feature = feature,
                      .default_left = true,
                      .is_categorical = true,
                      .left = {}};
  GradientSum right;
  for (int i = 0; i < tried; ++i) {
    right += histogram[static_cast<std::size_t>(sorted[static_cast<std::size_t>(i)])];
    candidate.left = node.total - right;
    if (consider(candidate, node, best)) {
      set_size = static_cast<std::size_t>(i) + 1;
    }
  }
  // What is left grows from the heaviest on; missing values go right.
  candidate.default_left = false;
  candidate.left = {};
  for (int i = num_categories - 1; i > num_categories - 1 - tried; --i) {
    candidate.left += histogram[static_cast<std::size_t>(sorted[static_cast<std::size_t>(i)])];
    if (consider(candidate, node, best)) {
      set_size = static_cast<std::size_t>(i);
    }
  }
  if (set_size > 0) {
    best.set = set_of(std::span<const int>(sorted).first(set_size), num_categories);
  }
}

bool SplitFinder::consider(const Candidate& candidate, const SplitNode& node, Split& best) const {
  const GradientSum right = node.total - candidate.left;
  if (candidate.left.count == 0 || right.count == 0 ||
      hessian(candidate.left) < rules_.min_child_weight ||
      hessian(right) < rules_.min_child_weight) {
    return false;
  }
  if (const int direction = constraint(candidate.feature); direction != 0) {
    const double left_weight = weight({candidate.left, node.lower, node.upper});
    const double right_weight = weight({right, node.lower, node.upper});
    if (direction > 0 ? left_weight > right_weight : left_weight < right_weight) {
      return false;
    }
  }
  const double gain = score(candidate.left, node) + score(right, node) - candidate.unsplit;
  if (!(gain > best.gain && gain > kLeastGain && gain >= rules_.gamma)) {
    return false;
  }
  best.gain = gain;
  best.feature = candidate.feature;
  best.bin = candidate.bin;
  best.default_left = candidate.default_left;
  best.is_categorical = candidate.is_categorical;
  best.left = candidate.left;
  best.set.clear();
  return true;
}

// What a leaf with these sums takes off the loss, doubled.
double SplitFinder::score(const GradientSum& sum, const SplitNode& node) const {
  const double g = static_cast<double>(sum.gradient) * unit_.gradient_unit;
  const double h = hessian(sum) + rules_.lambda;
  if (rules_.monotone.empty()) {
    return h > 0.0 ? g * g / h : 0.0;
  }
  const double w = weight({sum, node.lower, node.upper});
  return -(2.0 * g * w + h * w * w);
}

double SplitFinder::weight(const SplitNode& node) const {
  const double g = static_cast<double>(node.total.gradient) * unit_.gradient_unit;
  const double h = hessian(node.total) + rules_.lambda;
  const double free = h > 0.0 ? -g / h : 0.0;
  return std::clamp(free, node.lower, node.upper);
}

std::pair<SplitNode, SplitNode> SplitFinder::children(const SplitNode& node,
                                                      const Split& split) const {
  SplitNode left{split.left, node.lower, node.upper};
  SplitNode right{node.total - split.left, node.lower, node.upper};
  const int direction = constraint(split.feature);
  if (direction != 0) {
    const double middle = 0.5 * (weight(left) + weight(right));
    (direction > 0 ? left.upper : left.lower) = middle;
    (direction > 0 ? right.lower : right.upper) = middle;
  }
  return {left, right};
}

std::size_t split_words(std::size_t set_words) {
  return kFixedWords + set_words;
}

void write_split(const Split& split, std::span<std::int64_t> words) {
  std::fill(words.begin(), words.end(), 0);
  const std::int64_t flags =
      (split.default_left ? kDefaultLeft : 0) | (split.is_categorical ? kCategorical : 0);
  const std::int64_t fixed[kFixedWords] = {std::bit_cast<std::int64_t>(split.gain),
                                           split.feature,
                                           split.bin,
                                           flags,
                                           split.left.gradient,
                                           split.left.hessian,
                                           split.left.count};
  std::copy(std::begin(fixed), std::end(fixed), words.begin());
  std::transform(split.set.begin(), split.set.end(), words.begin() + kFixedWords,
                 [](std::uint64_t word) { return static_cast<std::int64_t>(word); });
}

Split read_split(std::span<const std::int64_t> words) {
  Split split;
  split.gain = std::bit_cast<double>(words[0]);
  split.feature = static_cast<int>(words[1]);
  split.bin = static_cast<int>(words[2]);
  split.default_left = (words[3] & kDefaultLeft) != 0;
  split.is_categorical = (words[3] & kCategorical) != 0;
  split.left = {.gradient = words[4], .hessian = words[5], .count = words[6]};
  if (split.is_categorical) {
    for (const std::int64_t word : words.subspan(kFixedWords)) {
      split.set.push_back(static_cast<std::uint64_t>(word));
    }
  }
  return split;
}

}  // namespace superstep::worker
