#include "worker/estimator/cut_points.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "worker/data/virtual_parts.h"

namespace superstep::worker {

namespace cut_steps {

void unite(std::vector<WeightedValue>& points) {
  std::sort(points.begin(), points.end(),
            [](const WeightedValue& a, const WeightedValue& b) { return a.value < b.value; });
  std::size_t kept = 0;
  for (const WeightedValue& point : points) {
    if (kept > 0 && points[kept - 1].value == point.value) {
      points[kept - 1].weight += point.weight;
    } else {
      points[kept++] = point;
    }
  }
  points.resize(kept);
}

std::vector<WeightedValue> summarise(std::span<const WeightedValue> points, int size) {
  if (points.size() <= static_cast<std::size_t>(size)) {
    return {points.begin(), points.end()};
  }
  std::int64_t left = 0;
  for (const WeightedValue& point : points) {
    left += point.weight;
  }
  std::vector<WeightedValue> runs;
  std::int64_t runs_left = size;
  bool is_open = false;
  const auto close = [&] {
    left -= runs.back().weight;
    --runs_left;
    is_open = false;
  };
  for (std::size_t i = 0; i < points.size(); ++i) {
    const bool is_heavy = points[i].weight * runs_left >= left;
    if (is_open && is_heavy && runs_left > 1) {
      close();
    }
    if (!is_open) {
      runs.push_back({.value = points[i].value, .weight = 0});
      is_open = true;
    }
    runs.back().weight += points[i].weight;
    const auto points_left = static_cast<std::int64_t>(points.size() - i) - 1;
    const bool is_full = runs.back().weight * runs_left >= left;
    if (runs_left > 1 && (is_full || points_left < runs_left)) {
      close();
    }
  }
  return runs;
}

std::vector<float> choose_cuts(std::span<const WeightedValue> points, int max_bin) {
  const std::vector<WeightedValue> runs = summarise(points, max_bin);
  std::vector<float> cuts;
  cuts.reserve(runs.size());
  for (const WeightedValue& run : runs) {
    cuts.push_back(run.value);
  }
  return cuts;
}

}  // namespace cut_steps

namespace {

using cut_steps::WeightedValue;

constexpr int kSummaryPerBin = 8;

// Of this rank: the summaries of its parts, united.
std::vector<WeightedValue> summary_of_rank(const Table& table, const TableColumn& column,
                                           int size) {
  std::vector<WeightedValue> all;
  std::size_t row = 0;
  for (const std::int64_t rows : table.part_rows) {
    std::vector<WeightedValue> part;
    const std::size_t end = row + static_cast<std::size_t>(rows);
    for (; row < end; ++row) {
      if (!std::isnan(column.values[row])) {
        part.push_back({.value = column.values[row], .weight = 1});
      }
    }
    if (part.size() > static_cast<std::size_t>(size)) {
      cut_steps::unite(part);
      part = cut_steps::summarise(part, size);
    }
    all.insert(all.end(), part.begin(), part.end());
  }
  cut_steps::unite(all);
  return all;
}

int owner_of(std::size_t feature, std::size_t num_features, int num_ranks) {
  return static_cast<int>(feature * static_cast<std::size_t>(num_ranks) / num_features);
}

// Sends every feature's summary to the feature's owner.
class SummaryExchange {
 public:
  SummaryExchange(bsp::World& world, std::size_t num_features)
      : world_(world), lengths_(num_features), num_features_(num_features) {}

  // Features in ascending order, so that what goes to one rank is contiguous.
  void add(std::size_t feature, std::span<const WeightedValue> points) {
    lengths_[feature] = static_cast<std::int64_t>(points.size());
    for (const WeightedValue& point : points) {
      values_.push_back(point.value);
      weights_.push_back(point.weight);
    }
  }

  // Of the features that this rank owns, united over the ranks; empty for the others.
  std::vector<std::vector<WeightedValue>> run() {
    const auto ranks = static_cast<std::size_t>(world_.size());
    std::vector<std::int64_t> all_lengths(ranks * num_features_);
    const std::vector<std::int64_t> counts(ranks, static_cast<std::int64_t>(num_features_));
    world_.allgather(std::span<const std::int64_t>(lengths_), std::span<std::int64_t>(all_lengths),
                     counts);
    std::vector<std::int64_t> sent(ranks);
    std::vector<std::int64_t> received(ranks);
    for (std::size_t feature = 0; feature < num_features_; ++feature) {
      const int owner = owner_of(feature, num_features_, world_.size());
      sent[static_cast<std::size_t>(owner)] += lengths_[feature];
      for (std::size_t rank = 0; owner == world_.rank() && rank < ranks; ++rank) {
        received[rank] += all_lengths[rank * num_features_ + feature];
      }
    }
    const auto total = static_cast<std::size_t>(
        std::accumulate(received.begin(), received.end(), std::int64_t{0}));
    std::vector<float> values(total);
    std::vector<std::int64_t> weights(total);
    world_.alltoallv(std::span<const float>(values_), sent, std::span<float>(values), received);
    world_.alltoallv(std::span<const std::int64_t>(weights_), sent,
                     std::span<std::int64_t>(weights), received);
    return unpack(all_lengths, values, weights);
  }

 private:
  std::vector<std::vector<WeightedValue>> unpack(std::span<const std::int64_t> all_lengths,
                                                 std::span<const float> values,
                                                 std::span<const std::int64_t> weights) const {
    std::vector<std::vector<WeightedValue>> points(num_features_);
    std::size_t at = 0;
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(world_.size()); ++rank) {
      for (std::size_t feature = 0; feature < num_features_; ++feature) {
        if (owner_of(feature, num_features_, world_.size()) != world_.rank()) {
          continue;
        }
        for (std::int64_t i = 0; i < all_lengths[rank * num_features_ + feature]; ++i, ++at) {
          points[feature].push_back({.value = values[at], .weight = weights[at]});
        }
      }
    }
    if (world_.size() > 1) {
      for (std::vector<WeightedValue>& one : points) {
        cut_steps::unite(one);
      }
    }
    return points;
  }

  bsp::World& world_;
  std::vector<std::int64_t> lengths_;
  std::size_t num_features_;
  std::vector<float> values_;
  std::vector<std::int64_t> weights_;
};

// Gives every rank the cuts that their owners chose.
void share_cuts(bsp::World& world, std::vector<FeatureCuts>& cuts) {
  std::vector<std::int64_t> lengths(cuts.size());
  std::vector<std::int64_t> exact(cuts.size());
  std::vector<float> mine;
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    if (owner_of(i, cuts.size(), world.size()) == world.rank()) {
      lengths[i] = cuts[i].num_bins();
      exact[i] = cuts[i].is_exact ? 1 : 0;
      mine.insert(mine.end(), cuts[i].lower.begin(), cuts[i].lower.end());
      mine.push_back(cuts[i].above);
    }
  }
  world.allreduce(std::span<const std::int64_t>(lengths), std::span<std::int64_t>(lengths),
                  bsp::ReduceOp::kMax);
  world.allreduce(std::span<const std::int64_t>(exact), std::span<std::int64_t>(exact),
                  bsp::ReduceOp::kMax);
  std::vector<std::int64_t> counts(static_cast<std::size_t>(world.size()));
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    counts[static_cast<std::size_t>(owner_of(i, cuts.size(), world.size()))] += lengths[i] + 1;
  }
  std::vector<float> all(
      static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  world.allgather(std::span<const float>(mine), std::span<float>(all), counts);
  auto at = all.begin();
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    cuts[i].lower.assign(at, at + lengths[i]);
    cuts[i].above = *(at + lengths[i]);
    cuts[i].is_exact = exact[i] == 1;
    at += lengths[i] + 1;
  }
}

FeatureCuts cut_feature(std::span<const WeightedValue> points, int max_bin) {
  FeatureCuts cuts;
  cuts.lower = cut_steps::choose_cuts(points, max_bin);
  cuts.is_exact = cuts.lower.size() == points.size();
  if (cuts.lower.empty()) {
    cuts.lower.push_back(0.0F);  // no value at all: one bin that nothing is in
  }
  const float last = points.empty() ? 0.0F : points.back().value;
  cuts.above = last + (std::abs(last) + 1e-5F);  // XGBoost's rule: some number that is greater
  return cuts;
}

}  // namespace

int FeatureCuts::bin_of(float value) const {
  if (std::isnan(value)) {
    return missing_bin();
  }
  if (is_category) {
    return value >= 0.0F && value < static_cast<float>(num_bins()) ? static_cast<int>(value)
                                                                   : missing_bin();
  }
  // The last bin whose lower cut is at most the value; written without a branch to mispredict.
  const float* base = lower.data();
  for (std::size_t length = lower.size(); length > 1;) {
    const std::size_t half = length / 2;
    base = base[half] <= value ? base + half : base;
    length -= half;
  }
  return static_cast<int>(base - lower.data());
}

std::vector<FeatureCuts> find_cut_points(bsp::World& world, const Table& table,
                                         std::span<const std::size_t> features, int max_bin) {
  SummaryExchange exchange(world, features.size());
  for (std::size_t i = 0; i < features.size(); ++i) {
    const TableColumn& column = table.columns[features[i]];
    if (column.kind == ColumnKind::kNumber) {
      exchange.add(i, summary_of_rank(table, column, kSummaryPerBin * max_bin));
    }
  }
  std::vector<FeatureCuts> cuts(features.size());
  const std::vector<std::vector<WeightedValue>> points = exchange.run();
  for (std::size_t i = 0; i < features.size(); ++i) {
    cuts[i] = cut_feature(points[i], max_bin);
  }
  share_cuts(world, cuts);
  for (std::size_t i = 0; i < features.size(); ++i) {
    const TableColumn& column = table.columns[features[i]];
    cuts[i].has_missing = column.missing + column.unknown > 0;
    if (column.kind == ColumnKind::kCategory) {
      cuts[i].is_category = true;
      cuts[i].is_exact = true;
      cuts[i].lower.resize(std::max<std::size_t>(column.vocabulary.size(), 1));
      std::iota(cuts[i].lower.begin(), cuts[i].lower.end(), 0.0F);
    }
  }
  return cuts;
}

}  // namespace superstep::worker
