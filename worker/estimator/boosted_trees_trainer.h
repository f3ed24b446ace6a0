// Trains boosted trees on the rows of all ranks. The number of ranks never changes a bit.
//
//   const TrainedTrees trained = train_boosted_trees(world, table, "income", options);
//   const TreesEvaluation test = evaluate(world, trained.model, test_table);
//
// A round: derivatives of the loss at the rows' margins, rounded to integers
// (gradient_histogram.h); one tree per output (tree_grower.h); leaves added to the margins. Cuts
// are made once (cut_points.h). Random numbers are Philox's, keyed by seed, round and the row's
// index in the file (or the feature's), so that neither depends on who holds a row. Losses are
// float64 sums over the virtual parts in their order.
//
// Memory per rank: the table, 1 or 2 bytes per value for bins, 16 + 4 bytes per row and output, and
// for histograms 24 bytes per bin and node of two levels, divided by the number of ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "bsp/world.h"
#include "worker/data/table.h"
#include "worker/estimator/boosted_trees.h"
#include "worker/estimator/split.h"
#include "worker/estimator/tree_grower.h"

namespace superstep::worker {

struct BoostedTreesOptions {
  Objective objective = Objective::kBinaryLogistic;
  int rounds = 100;
  GrowthLimits limits;
  SplitRules rules;  // monotone by feature: the table's columns in order, without the label
  int max_bin = 255;
  double subsample = 1.0;  // share of the rows that a round looks at
  double colsample = 1.0;  // share of the features that a tree may split at
  std::uint64_t seed = 1;
  // Before the link; absent: 0.5, and for regression the mean of the labels.
  std::optional<double> base_score;
  // This share of the rows is kept out of the trees; their loss decides when to stop.
  double validation_fraction = 0.0;
  int early_stopping_rounds = 0;  // without a better validation loss; 0: never
};

// Throws InvalidArgument for a value out of range, naming it as the command line does.
void check(const BoostedTreesOptions& options);

struct TreesRoundReport {
  int round = 0;  // from 1
  std::optional<double> validation_loss;
};
using TreesObserver = std::function<void(const TreesRoundReport&)>;

struct TrainedTrees {
  BoostedTrees model;
  std::optional<double> validation_loss;  // of the model, when there is a validation share
  std::int64_t validation_rows = 0;
  int rounds_trained = 0;  // early stopping: more than the model's
  int exact_features = 0;  // features with a bin per value
  std::size_t num_bins = 0;
  double seconds = 0.0;  // cuts, bins and rounds, of this rank
};

// Collective: every rank gives its part of the same table (worker::read_table) and the same
// options. `label`: a column, a category for classes (two of them: kBinaryLogistic), a number for
// regression. Throws InvalidArgument when it is not, when options are out of range or name no
// feature, and DataError for a row without a label. `observer` is called on every rank.
TrainedTrees train_boosted_trees(bsp::World& world, const Table& table, std::string_view label,
                                 const BoostedTreesOptions& options,
                                 const TreesObserver& observer = {});

struct TreesEvaluation {
  std::int64_t rows = 0;
  double loss = 0.0;      // mean; of regression the mean squared error
  double accuracy = 0.0;  // of classes
};

// Collective; the same on every rank. Rows without a label, or with one that training did not have,
// are refused with DataError.
TreesEvaluation evaluate(bsp::World& world, const BoostedTrees& model, const Table& table);

}  // namespace superstep::worker
