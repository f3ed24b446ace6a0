// A model of boosted trees: what it predicts, why, and its fingerprint.
//
//   std::vector<float> margins(model.num_outputs());
//   model.margins(row, margins);                           // row[f]: value of feature f, NaN: none
//   transform(model.objective, margins);                   // probabilities
//
// Margins are sums in float32, base margin first and then the trees in order, as XGBoost adds them
// up. A model is the same on all ranks; const members are thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "worker/data/table.h"
#include "worker/estimator/objective.h"
#include "worker/estimator/tree.h"

namespace superstep::worker {

struct ModelFeature {
  std::string name;
  ColumnKind kind = ColumnKind::kNumber;
  std::vector<std::string> vocabulary;  // of a category
};

struct BoostedTrees {
  Objective objective = Objective::kBinaryLogistic;
  std::vector<ModelFeature> features;
  std::string label;
  std::vector<std::string> classes;  // vocabulary of the label; empty: a number
  double base_score = 0.5;           // before the link: a probability, or the value itself
  std::vector<Tree> trees;           // round by round; within a round one per output

  int num_outputs() const {
    return worker::num_outputs(objective, static_cast<int>(classes.size()));
  }
  int num_rounds() const { return static_cast<int>(trees.size()) / num_outputs(); }

  // Of one row: features.size() values in, num_outputs() margins out.
  void margins(std::span<const float> row, std::span<float> out) const;

  // XXH3-128 over everything that predictions depend on, in a fixed order (docs/estimators.md).
  Hash128 hash() const;
};

// Per feature, summed over the splits at it: XGBoost's total_gain, total_cover and weight.
struct FeatureImportance {
  double gain = 0.0;
  double cover = 0.0;  // sum of second derivatives of the rows that were split
  std::int64_t splits = 0;
};
std::vector<FeatureImportance> feature_importances(const BoostedTrees& model);

// Directional feature contributions of one row (Palczewska et al. 2013; Saabas): the way from the
// root to the leaf, each step's change of the expected value given to the feature split at. `out`
// holds, per output, features.size() contributions and the bias; they add up to the margin. The
// expected value of a node is the mean of its leaves, weighted by their second derivatives (as
// XGBoost's approx_contribs).
class FeatureContributions {
 public:
  // The model must remain valid. Cost: one pass over all nodes.
  explicit FeatureContributions(const BoostedTrees& model);

  std::size_t width() const { return model_.features.size() + 1; }
  // `out` has num_outputs() * width() elements.
  void explain(std::span<const float> row, std::span<double> out) const;

 private:
  const BoostedTrees& model_;
  std::vector<std::vector<double>> expected_;  // by tree, by node
};

// The columns of a table in the order of the model's features; throws InvalidArgument for one that
// is missing or of another kind.
std::vector<std::size_t> feature_columns(const BoostedTrees& model, const Table& table);

// Rows of a table, one after the other, as the model wants them.
class RowReader {
 public:
  RowReader(const BoostedTrees& model, const Table& table)
      : table_(table), columns_(feature_columns(model, table)), row_(columns_.size()) {}

  // Valid until the next call.
  std::span<const float> read(std::size_t row) {
    for (std::size_t f = 0; f < columns_.size(); ++f) {
      row_[f] = table_.columns[columns_[f]].values[row];
    }
    return row_;
  }

 private:
  const Table& table_;
  std::vector<std::size_t> columns_;
  std::vector<float> row_;
};

}  // namespace superstep::worker
