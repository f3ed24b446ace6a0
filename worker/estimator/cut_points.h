// Where the values of a feature are cut into bins, the same cuts on every number of ranks.
//
// The one cut rule: a bin is named by the smallest training value in it, its lower cut, and a split
// between bins b and b + 1 sends x < lower[b + 1] to the left (as XGBoost's hist does). A feature
// with at most max_bin distinct values gets a bin per value: its splits are exact. Otherwise:
//
// 1. Each virtual part (worker/data/virtual_parts.h) is summarised by its distinct values with
//    their counts; one with more than 8 max_bin of them by 8 max_bin runs of about equal weight,
//    each at its smallest value.
// 2. Summaries are united, which is exact and has no order: weights of equal values add up.
// 3. Bins are closed from the left whenever their weight reaches the mean of what is left; a value
//    that weighs as much gets a bin of its own and does not starve the rest. All in integers.
//
// A run of more than one value weighs less than twice the mean, so that the rank of a cut is wrong
// by less than a quarter of a bin's mean weight: parts are summarised once and never again
// (mergeable summaries, Agarwal et al. 2012, without their repeated pruning). A missing value has a
// bin of its own behind the others, if the feature has any.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bsp/world.h"
#include "worker/data/table.h"

namespace superstep::worker {

struct FeatureCuts {
  // lower[b] is the smallest value of bin b, ascending; of a category the codes 0, 1, ...
  std::vector<float> lower;
  float above = 0.0F;        // a threshold greater than every training value
  bool is_category = false;  // splits by set, not by order
  bool has_missing = false;
  bool is_exact = true;  // a bin per value

  int num_bins() const { return static_cast<int>(lower.size()); }  // without that of no value
  int all_bins() const { return num_bins() + (has_missing ? 1 : 0); }
  int missing_bin() const { return num_bins(); }
  // Of the split that sends bins 0 ... bin to the left.
  float threshold(int bin) const {
    return bin + 1 < num_bins() ? lower[static_cast<std::size_t>(bin) + 1] : above;
  }
  // The bin of a value; of NaN, and of a category that was not in training, missing_bin() (which
  // exists only with has_missing). A number below all cuts is in bin 0.
  int bin_of(float value) const;
};

// Collective. `features` are columns of the table, in the order in which they are numbered; result
// in the same order. Feature i is cut by rank ⌊i p / F⌋. Cost: w sorts the rank's values, h is the
// summaries (at most 12 bytes per value) and the cuts.
std::vector<FeatureCuts> find_cut_points(bsp::World& world, const Table& table,
                                         std::span<const std::size_t> features, int max_bin);

// The steps by themselves.
namespace cut_steps {

struct WeightedValue {
  float value = 0.0F;
  std::int64_t weight = 0;

  friend bool operator==(const WeightedValue&, const WeightedValue&) = default;
};

// Sorts by value and adds up the weights of equal values.
void unite(std::vector<WeightedValue>& points);
// Step 1, of united points: at most `size` runs.
std::vector<WeightedValue> summarise(std::span<const WeightedValue> points, int size);
// Step 3, of united points: lower cuts of at most max_bin bins.
std::vector<float> choose_cuts(std::span<const WeightedValue> points, int max_bin);

}  // namespace cut_steps

}  // namespace superstep::worker
