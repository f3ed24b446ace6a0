#include "worker/estimator/boosted_trees_trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/philox.h"
#include "worker/data/virtual_parts.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kBoostedTrees = "boosted trees";
constexpr int kMaxDepth = 16;
constexpr int kMaxBins = 65'535;

void require_option(bool holds, std::string_view name, double got, std::string_view expected) {
  if (!holds) {
    throw InvalidArgument(kBoostedTrees,
                          fmt::format("{}: got {}, expected {}", name, got, expected));
  }
}

// The label column, with every value there and fit for the objective.
const TableColumn& label_column(bsp::World& world, const Table& table, std::size_t index,
                                Objective objective) {
  const TableColumn& label = table.columns[index];
  const bool wants_number = objective == Objective::kSquaredError;
  if ((label.kind == ColumnKind::kNumber) != wants_number) {
    throw InvalidArgument(
        kBoostedTrees,
        fmt::format("label \"{}\" of the objective {}: got a {}, expected a {}", label.name,
                    name_of(objective), name_of(label.kind), wants_number ? "number" : "category"));
  }
  if (objective == Objective::kBinaryLogistic && label.vocabulary.size() != 2) {
    throw InvalidArgument(kBoostedTrees,
                          fmt::format("label \"{}\" of the objective binary: got {} classes, "
                                      "expected 2 (multiclass takes more)",
                                      label.name, label.vocabulary.size()));
  }
  const auto bad = std::find_if(label.values.begin(), label.values.end(),
                                [](float value) { return std::isnan(value); });
  constexpr auto kNone = std::numeric_limits<std::int64_t>::max();
  const std::int64_t mine =
      bad == label.values.end() ? kNone : table.first_row + (bad - label.values.begin());
  const std::int64_t row = world.allreduce(mine, bsp::ReduceOp::kMin);
  if (row != kNone) {
    throw DataError(kBoostedTrees, label.name, -1,
                    fmt::format("row {} (from 0) has no label{}", row,
                                label.unknown > 0 ? " that was in the training data" : ""));
  }
  return label;
}

// Sums of one number per row over the virtual parts, in their order.
template <typename ValueOfRow>
double sum_of_rows(bsp::World& world, const Table& table, const ValueOfRow& value_of_row) {
  std::vector<double> sums;
  std::size_t row = 0;
  for (const std::int64_t rows : table.part_rows) {
    double sum = 0.0;
    for (const std::size_t end = row + static_cast<std::size_t>(rows); row < end; ++row) {
      sum += value_of_row(row);
    }
    sums.push_back(sum);
  }
  return sum_over_parts(world, sums);
}

class BoostedTreesTraining {
 public:
  BoostedTreesTraining(bsp::World& world, const Table& table, std::string_view label,
                       const BoostedTreesOptions& options)
      : world_(world),
        table_(table),
        options_(options),
        label_index_(table.index_of(label, "label")),
        label_(label_column(world, table, label_index_, options.objective)),
        num_rows_(static_cast<std::size_t>(table.num_rows)) {
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      if (i != label_index_) {
        features_.push_back(i);
      }
    }
    require_trainable();
    describe_model();
    choose_validation_rows();
  }

  TrainedTrees run(const TreesObserver& observer) {
    const Stopwatch watch;
    const std::vector<FeatureCuts> cuts =
        find_cut_points(world_, table_, features_, options_.max_bin);
    const BinMatrix bins(table_, features_, cuts);
    trained_.num_bins = bins.total_bins();
    trained_.exact_features = static_cast<int>(std::count_if(
        cuts.begin(), cuts.end(), [](const FeatureCuts& one) { return one.is_exact; }));
    TreeGrower grower(world_, bins, options_.rules, options_.limits);
    int best_round = 0;
    for (int round = 1; round <= options_.rounds; ++round) {
      add_round(round, grower);
      trained_.rounds_trained = round;
      TreesRoundReport report{.round = round, .validation_loss = validation_loss()};
      if (observer) {
        observer(report);
      }
      if (report.validation_loss && is_better(*report.validation_loss)) {
        best_round = round;
        trained_.validation_loss = report.validation_loss;
      }
      if (options_.early_stopping_rounds > 0 &&
          round - best_round >= options_.early_stopping_rounds) {
        break;
      }
    }
    if (options_.early_stopping_rounds > 0) {
      trained_.model.trees.resize(static_cast<std::size_t>(best_round) * outputs_);
    } else {
      trained_.validation_loss = validation_loss();
    }
    trained_.seconds = watch.seconds();
    return std::move(trained_);
  }

 private:
  void require_trainable() const {
    if (table_.total_rows == 0 || features_.empty()) {
      throw InvalidArgument(kBoostedTrees, fmt::format("got {} rows and {} features, expected at "
                                                       "least one of each",
                                                       table_.total_rows, features_.size()));
    }
    const std::vector<int>& monotone = options_.rules.monotone;
    if (!monotone.empty() && monotone.size() != features_.size()) {
      throw InvalidArgument(
          kBoostedTrees, fmt::format("monotone constraints: got {}, expected {}, one per feature",
                                     monotone.size(), features_.size()));
    }
    for (std::size_t f = 0; f < monotone.size(); ++f) {
      const TableColumn& column = table_.columns[features_[f]];
      if (monotone[f] != 0 && column.kind == ColumnKind::kCategory) {
        throw InvalidArgument(kBoostedTrees,
                              fmt::format("monotone constraint on \"{}\": got a category, which "
                                          "has no order, expected a number",
                                          column.name));
      }
    }
  }

  void describe_model() {
    BoostedTrees& model = trained_.model;
    model.objective = options_.objective;
    model.label = label_.name;
    model.classes = label_.vocabulary;
    for (const std::size_t index : features_) {
      const TableColumn& column = table_.columns[index];
      model.features.push_back(
          {.name = column.name, .kind = column.kind, .vocabulary = column.vocabulary});
    }
    outputs_ = static_cast<std::size_t>(model.num_outputs());
    model.base_score = options_.base_score.value_or(default_base_score());
    margins_.assign(num_rows_ * outputs_, base_margin(model.objective, model.base_score));
    packed_.resize(num_rows_ * outputs_);
  }

  double default_base_score() {
    if (options_.objective != Objective::kSquaredError) {
      return 0.5;
    }
    const double sum = sum_of_rows(
        world_, table_, [&](std::size_t row) { return static_cast<double>(label_.values[row]); });
    return static_cast<double>(static_cast<float>(sum / static_cast<double>(table_.total_rows)));
  }

  // A row of all ranks is chosen by its index alone.
  static bool is_chosen(const PhiloxStream& stream, std::int64_t row, double share) {
    const PhiloxBlock words = stream.block(static_cast<std::uint64_t>(row));
    return unit_double(words[0], words[1]) < share;
  }

  void choose_validation_rows() {
    is_validation_.assign(num_rows_, 0);
    if (options_.validation_fraction == 0.0) {
      return;
    }
    const PhiloxStream stream(options_.seed, stream_id("validation rows"));
    std::int64_t count = 0;
    for (std::size_t row = 0; row < num_rows_; ++row) {
      is_validation_[row] = is_chosen(stream, table_.first_row + static_cast<std::int64_t>(row),
                                      options_.validation_fraction)
                                ? 1
                                : 0;
      count += is_validation_[row];
    }
    trained_.validation_rows = world_.allreduce(count, bsp::ReduceOp::kSum);
    if (trained_.validation_rows == 0 || trained_.validation_rows == table_.total_rows) {
      throw InvalidArgument(
          kBoostedTrees,
          fmt::format("validation fraction {} of {} rows: got {} rows, expected "
                      "some and not all",
                      options_.validation_fraction, table_.total_rows, trained_.validation_rows));
    }
  }

  std::span<const float> margins_of(std::size_t row) const {
    return std::span<const float>(margins_).subspan(row * outputs_, outputs_);
  }

  // Derivatives are bounded for all margins, or by the largest there is.
  FixedPoint unit_of_round() {
    DerivativeBounds bounds = bounds_of(options_.objective);
    if (bounds.gradient == 0.0) {
      double largest = 0.0;
      for (std::size_t row = 0; row < num_rows_; ++row) {
        largest =
            std::max(largest, std::abs(static_cast<double>(margins_[row] - label_.values[row])));
      }
      largest = world_.allreduce(largest, bsp::ReduceOp::kMax);
      bounds.gradient = largest > 0.0 ? largest : 1.0;
    }
    return fixed_point(bounds, table_.total_rows);
  }

  void add_round(int round, TreeGrower& grower) {
    const FixedPoint unit = unit_of_round();
    pack_derivatives(round, unit);
    for (std::size_t output = 0; output < outputs_; ++output) {
      const std::span<const PackedDerivatives> mine =
          std::span<const PackedDerivatives>(packed_).subspan(output * num_rows_, num_rows_);
      Tree tree = grower.grow(mine, unit, enabled_features(round, output));
      grower.for_each_leaf(tree, [&](const TreeNode& leaf, std::span<const std::uint32_t> rows) {
        for (const std::uint32_t row : rows) {
          margins_[row * outputs_ + output] += leaf.value;
        }
      });
      trained_.model.trees.push_back(std::move(tree));
    }
  }

  void pack_derivatives(int round, const FixedPoint& unit) {
    const PhiloxStream stream(options_.seed, stream_id("row sample"), round);
    const bool samples = options_.subsample < 1.0;
    std::vector<Derivatives> of_row(outputs_);
    for (std::size_t row = 0; row < num_rows_; ++row) {
      const bool counts =
          is_validation_[row] == 0 &&
          (!samples || is_chosen(stream, table_.first_row + static_cast<std::int64_t>(row),
                                 options_.subsample));
      if (counts) {
        derivatives(options_.objective, margins_of(row), label_.values[row], of_row);
      }
      for (std::size_t output = 0; output < outputs_; ++output) {
        packed_[output * num_rows_ + row] =
            counts ? pack(of_row[output], unit) : PackedDerivatives{};
      }
    }
  }

  std::vector<bool> enabled_features(int round, std::size_t output) const {
    if (options_.colsample >= 1.0) {
      return std::vector<bool>(features_.size(), true);
    }
    std::vector<bool> enabled(features_.size(), false);
    const double share = options_.colsample * static_cast<double>(features_.size());
    const auto count = std::max<std::size_t>(1, static_cast<std::size_t>(std::llround(share)));
    const auto tree = static_cast<std::uint64_t>(round) * outputs_ + output;
    const std::vector<std::int64_t> order =
        permutation(static_cast<std::int64_t>(features_.size()),
                    options_.seed ^ stream_id("feature sample"), tree);
    for (std::size_t i = 0; i < count; ++i) {
      enabled[static_cast<std::size_t>(order[i])] = true;
    }
    return enabled;
  }

  std::optional<double> validation_loss() {
    if (trained_.validation_rows == 0) {
      return std::nullopt;
    }
    const double sum = sum_of_rows(world_, table_, [&](std::size_t row) {
      return is_validation_[row] == 1
                 ? loss(options_.objective, margins_of(row), label_.values[row])
                 : 0.0;
    });
    return sum / static_cast<double>(trained_.validation_rows);
  }

  bool is_better(double validation_loss) const {
    return !trained_.validation_loss || validation_loss < *trained_.validation_loss;
  }

  bsp::World& world_;
  const Table& table_;
  const BoostedTreesOptions& options_;
  std::size_t label_index_;
  const TableColumn& label_;
  std::size_t num_rows_;
  std::size_t outputs_ = 1;
  std::vector<std::size_t> features_;  // columns
  TrainedTrees trained_;
  std::vector<float> margins_;               // by row, then output
  std::vector<PackedDerivatives> packed_;    // by output, then row
  std::vector<std::uint8_t> is_validation_;  // by row
};

}  // namespace

void check(const BoostedTreesOptions& options) {
  require_option(options.rounds >= 1, "--rounds", options.rounds, "at least 1");
  require_option(options.limits.max_depth >= 1 && options.limits.max_depth <= kMaxDepth,
                 "--max-depth", options.limits.max_depth, fmt::format("1 to {}", kMaxDepth));
  const auto is_share = [](double value) { return value > 0.0 && value <= 1.0; };
  require_option(is_share(options.limits.learning_rate), "--learning-rate",
                 options.limits.learning_rate, "above 0, at most 1");
  require_option(is_share(options.subsample), "--subsample", options.subsample,
                 "above 0, at most 1");
  require_option(is_share(options.colsample), "--colsample", options.colsample,
                 "above 0, at most 1");
  const auto is_weight = [](double value) { return value >= 0.0 && std::isfinite(value); };
  require_option(is_weight(options.rules.lambda), "--lambda", options.rules.lambda, "at least 0");
  require_option(is_weight(options.rules.gamma), "--gamma", options.rules.gamma, "at least 0");
  require_option(is_weight(options.rules.min_child_weight), "--min-child-weight",
                 options.rules.min_child_weight, "at least 0");
  require_option(options.max_bin >= 2 && options.max_bin <= kMaxBins, "--max-bin", options.max_bin,
                 fmt::format("2 to {}", kMaxBins));
  require_option(options.validation_fraction >= 0.0 && options.validation_fraction < 1.0,
                 "--validation-fraction", options.validation_fraction, "at least 0, below 1");
  require_option(options.early_stopping_rounds >= 0, "--early-stopping",
                 options.early_stopping_rounds, "at least 0");
  require_option(options.early_stopping_rounds == 0 || options.validation_fraction > 0.0,
                 "--validation-fraction", options.validation_fraction,
                 "above 0 with --early-stopping");
}

TrainedTrees train_boosted_trees(bsp::World& world, const Table& table, std::string_view label,
                                 const BoostedTreesOptions& options,
                                 const TreesObserver& observer) {
  check(options);
  return BoostedTreesTraining(world, table, label, options).run(observer);
}

TreesEvaluation evaluate(bsp::World& world, const BoostedTrees& model, const Table& table) {
  const TableColumn& label =
      label_column(world, table, table.index_of(model.label, "label"), model.objective);
  RowReader rows(model, table);
  std::vector<float> margins(static_cast<std::size_t>(model.num_outputs()));
  std::int64_t correct = 0;
  const double sum = sum_of_rows(world, table, [&](std::size_t row) {
    model.margins(rows.read(row), margins);
    correct += predicted_class(model.objective, margins) == static_cast<int>(label.values[row]);
    return loss(model.objective, margins, label.values[row]);
  });
  TreesEvaluation evaluation;
  evaluation.rows = table.total_rows;
  const auto count = static_cast<double>(std::max<std::int64_t>(table.total_rows, 1));
  const bool is_regression = model.objective == Objective::kSquaredError;
  evaluation.loss = sum / count * (is_regression ? 2.0 : 1.0);  // half squares were added up
  const std::int64_t all_correct = world.allreduce(correct, bsp::ReduceOp::kSum);
  evaluation.accuracy = is_regression ? 0.0 : static_cast<double>(all_correct) / count;
  return evaluation;
}

}  // namespace superstep::worker
