// The best split of a node, from its histogram.
//
// With G and H the sums of first and second derivatives of a side, a split gains (Chen and Guestrin
// 2016, equation 7, doubled as in XGBoost)
//
//   G_L^2 / (H_L + lambda) + G_R^2 / (H_R + lambda) - G^2 / (H + lambda)
//
// and is taken when that is more than 1e-6 and at least gamma, both sides have rows, and
// H >= min_child_weight on both. Candidates are looked at in one order: features ascending; of a
// number first cuts ascending with missing values on the right, then, if the node has missing
// values, cuts descending with them on the left; of a category its set sizes in the same two
// directions. A later candidate wins only when it gains more, so that ties go to the earlier one.
// Sums are integers and the arithmetic on them is a fixed sequence of float64 operations: every
// rank that looks finds the same.
//
//   SplitFinder finder(cuts, rules, unit);
//   Split split;                                            // none yet
//   finder.search(feature, histogram_of_feature, node, split);     // improves it
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "worker/estimator/cut_points.h"
#include "worker/estimator/gradient_histogram.h"

namespace superstep::worker {

struct SplitRules {
  double lambda = 1.0;
  double gamma = 0.0;
  double min_child_weight = 1.0;
  // A category of fewer different values is split one against the rest, any other by a set: its
  // values sorted by -G / (H + lambda) (Fisher 1958: for a convex loss one of these n - 1 sets is
  // the best of all 2^(n-1)).
  int max_cat_to_onehot = 4;
  int max_cat_threshold = 64;  // sets are looked for among so many values from either end
  // Per feature: +1 predictions may not fall when the value rises, -1 not rise, 0 free. Empty: all
  // free.
  std::vector<int> monotone;
};

// A node to be split: its sums, and what monotone constraints above it leave to its weight.
struct SplitNode {
  GradientSum total;
  double lower = -std::numeric_limits<double>::infinity();
  double upper = std::numeric_limits<double>::infinity();
};

struct Split {
  double gain = 0.0;  // 0: there is none
  int feature = -1;
  int bin = -1;  // of a number: bins 0 ... bin go left
  bool default_left = false;
  bool is_categorical = false;
  GradientSum left;                // missing values where they go
  std::vector<std::uint64_t> set;  // of a category: bit c set: goes right

  bool exists() const { return feature >= 0; }
};

class SplitFinder {
 public:
  // The cuts and rules must remain valid.
  SplitFinder(std::span<const FeatureCuts> cuts, const SplitRules& rules, const FixedPoint& unit)
      : cuts_(cuts), rules_(rules), unit_(unit) {}

  // `histogram`: of this feature, cuts.all_bins() sums.
  void search(int feature, std::span<const GradientSum> histogram, const SplitNode& node,
              Split& best) const;

  // Whether there can be a split at all: false spares the node its histogram.
  bool may_split(const SplitNode& node) const {
    return node.total.count >= 2 && hessian(node.total) >= 2.0 * rules_.min_child_weight;
  }
  // The weight of a leaf, -G / (H + lambda) within the node's bounds.
  double weight(const SplitNode& node) const;
  double hessian(const GradientSum& sum) const {
    return static_cast<double>(sum.hessian) * unit_.hessian_unit;
  }
  // The nodes below a split: sums, and bounds that keep a constrained feature monotone.
  std::pair<SplitNode, SplitNode> children(const SplitNode& node, const Split& split) const;

 private:
  struct Candidate;

  void search_number(int feature, std::span<const GradientSum> histogram, const SplitNode& node,
                     Split& best) const;
  void search_one_against_rest(int feature, std::span<const GradientSum> histogram,
                               const SplitNode& node, Split& best) const;
  void search_sets(int feature, std::span<const GradientSum> histogram, const SplitNode& node,
                   Split& best) const;
  bool consider(const Candidate& candidate, const SplitNode& node, Split& best) const;
  double score(const GradientSum& sum, const SplitNode& node) const;
  int constraint(int feature) const {
    return rules_.monotone.empty() ? 0 : rules_.monotone[static_cast<std::size_t>(feature)];
  }

  std::span<const FeatureCuts> cuts_;
  const SplitRules& rules_;
  FixedPoint unit_;
};

// As integers, for the wire: split_words(set_words) of them whatever the split is.
std::size_t split_words(std::size_t set_words);
void write_split(const Split& split, std::span<std::int64_t> words);
Split read_split(std::span<const std::int64_t> words);

}  // namespace superstep::worker
