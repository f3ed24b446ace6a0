// Training as a whole: one rank alone is the oracle of every world, bit for bit.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/philox.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "worker/estimator/boosted_trees_trainer.h"

namespace superstep::worker {
namespace {

using testing::WorldDirectory;

// Rows with a rule in them: numbers of few and of many values, categories of few and of many,
// values that are missing for a reason.
std::string made_csv(int rows, std::string_view label) {
  std::string text = "few,many,small,large,noise,label\n";
  const PhiloxStream stream(11, stream_id("rows"));
  for (int i = 0; i < rows; ++i) {
    const PhiloxBlock words = stream.block(static_cast<std::uint64_t>(i));
    const int few = static_cast<int>(words[0] % 10);
    const double many = unit_double(words[1], words[2]) * 10.0 - 5.0;
    const int small = static_cast<int>(words[3] % 3);
    const int large = static_cast<int>(words[3] / 3 % 40);
    const double score = 0.5 * few + std::sin(many) * 2.0 + (small == 1 ? 1.5 : 0.0) +
                         (large % 7 < 3 ? 1.0 : -1.0) + unit_double(words[2], words[0]) * 2.0;
    const std::string many_text = words[0] % 13 == 0 ? "?" : fmt::format("{:.5f}", many);
    const std::string answer =
        label == "value"    ? fmt::format("{:.4f}", score)
        : label == "binary" ? (score > 3.0 ? "yes" : "no")
                            : fmt::format("class{}", std::clamp(static_cast<int>(score), 0, 4));
    text +=
        fmt::format("{},{},s{},l{},{},{}\n", few, many_text, small, large, words[1] % 1000, answer);
  }
  return text;
}

class Made {
 public:
  Made(bsp::World& world, int rows, std::string_view label)
      : directory_(world), path_(directory_.path() / "rows.csv") {
    if (world.rank() == 0) {
      write_file_atomically(path_, made_csv(rows, label));
    }
    world.sync();
  }
  Table read(bsp::World& world) const {
    const MappedFile file(path_);
    const CsvDialect dialect;
    return read_table(world, file, infer_schema(file, dialect, {}), dialect);
  }

 private:
  WorldDirectory directory_;
  std::filesystem::path path_;
};

BoostedTreesOptions small_options(Objective objective) {
  BoostedTreesOptions options;
  options.objective = objective;
  options.rounds = 8;
  options.limits = {.max_depth = 5, .learning_rate = 0.3};
  options.max_bin = 32;  // "many" and "noise" are summarised
  return options;
}

void expect_bits_of_one_rank(bsp::World& world, const Made& made,
                             const BoostedTreesOptions& options) {
  bsp::World alone = world.split(world.rank(), 0);
  const Table all = made.read(alone);
  const TrainedTrees oracle = train_boosted_trees(alone, all, "label", options);
  const Table mine = made.read(world);
  const TrainedTrees trained = train_boosted_trees(world, mine, "label", options);
  EXPECT_EQ(to_text(trained.model.hash()), to_text(oracle.model.hash()));
  EXPECT_EQ(trained.model.num_rounds(), oracle.model.num_rounds());
  EXPECT_EQ(trained.validation_loss, oracle.validation_loss);
  const TreesEvaluation there = evaluate(alone, oracle.model, all);
  const TreesEvaluation here = evaluate(world, trained.model, mine);
  EXPECT_EQ(here.loss, there.loss);  // to the bit
  EXPECT_EQ(here.accuracy, there.accuracy);
  EXPECT_EQ(here.rows, there.rows);
}

SUPERSTEP_WORLD_TEST_ON_NODES(BoostedTrees, EveryWorldGivesTheBitsOfOneRank) {
  const Made made(world, 3000, "binary");
  expect_bits_of_one_rank(world, made, small_options(Objective::kBinaryLogistic));
}

SUPERSTEP_WORLD_TEST(BoostedTrees, EveryObjectiveGivesTheBitsOfOneRank) {
  const Made value(world, 1500, "value");
  expect_bits_of_one_rank(world, value, small_options(Objective::kSquaredError));
  const Made classes(world, 1500, "classes");
  expect_bits_of_one_rank(world, classes, small_options(Objective::kMulticlass));
}

SUPERSTEP_WORLD_TEST(BoostedTrees, SamplesAndConstraintsNeverDependOnRanks) {
  const Made made(world, 1500, "binary");
  BoostedTreesOptions options = small_options(Objective::kBinaryLogistic);
  options.subsample = 0.6;
  options.colsample = 0.5;
  options.validation_fraction = 0.2;
  options.rules.monotone = {1, 0, 0, 0, -1};
  options.max_bin = 4096;  // two bytes per bin
  expect_bits_of_one_rank(world, made, options);
}

SUPERSTEP_WORLD_TEST(BoostedTrees, FewRowsLeaveSomeRanksWithoutAny) {
  const Made made(world, 5, "value");
  BoostedTreesOptions options = small_options(Objective::kSquaredError);
  options.rules.min_child_weight = 0.0;
  options.rules.lambda = 0.0;
  options.limits = {.max_depth = 5, .learning_rate = 1.0};
  options.rounds = 2;
  expect_bits_of_one_rank(world, made, options);
  const Table table = made.read(world);
  const TrainedTrees trained = train_boosted_trees(world, table, "label", options);
  // Five rows, a leaf each: learnt by heart, to the rounding of float32.
  EXPECT_LT(evaluate(world, trained.model, table).loss, 1e-10);
}

SUPERSTEP_WORLD_TEST(BoostedTrees, LearnWhatIsThere) {
  const Made made(world, 4000, "binary");
  const Table table = made.read(world);
  BoostedTreesOptions options = small_options(Objective::kBinaryLogistic);
  options.rounds = 20;
  options.limits.max_depth = 3;  // too shallow to learn noise by heart
  const TrainedTrees trained = train_boosted_trees(world, table, "label", options);
  EXPECT_GT(evaluate(world, trained.model, table).accuracy, 0.75);
  const std::vector<FeatureImportance> importances = feature_importances(trained.model);
  for (std::size_t f = 0; f < 4; ++f) {
    EXPECT_GT(importances[f].gain, importances[4].gain) << f;  // 4: noise
  }
}

SUPERSTEP_WORLD_TEST(BoostedTrees, StopEarlyAtTheBestRound) {
  const Made made(world, 600, "binary");
  const Table table = made.read(world);
  BoostedTreesOptions options = small_options(Objective::kBinaryLogistic);
  options.rounds = 400;
  options.limits.learning_rate = 0.5;
  options.validation_fraction = 0.3;
  options.early_stopping_rounds = 10;
  std::vector<double> losses;
  const TrainedTrees trained = train_boosted_trees(
      world, table, "label", options,
      [&](const TreesRoundReport& report) { losses.push_back(report.validation_loss.value()); });
  ASSERT_LT(losses.size(), 400U);
  const auto best = std::min_element(losses.begin(), losses.end());
  EXPECT_EQ(trained.model.num_rounds(), best - losses.begin() + 1);
  EXPECT_EQ(trained.validation_loss, *best);
  EXPECT_EQ(trained.rounds_trained, trained.model.num_rounds() + 10);
}

SUPERSTEP_WORLD_TEST(BoostedTrees, MonotoneConstraintsHoldEverywhere) {
  const Made made(world, 2000, "binary");
  const Table table = made.read(world);
  BoostedTreesOptions options = small_options(Objective::kBinaryLogistic);
  options.rounds = 30;
  options.rules.monotone = {1, 0, 0, 0, 0};
  const BoostedTrees model = train_boosted_trees(world, table, "label", options).model;
  RowReader rows(model, table);
  std::vector<float> margins(1);
  for (std::size_t row = 0;
       row < static_cast<std::size_t>(std::min<std::int64_t>(table.num_rows, 200)); ++row) {
    const std::span<const float> read = rows.read(row);
    std::vector<float> probe(read.begin(), read.end());
    float last = -1e30F;
    for (int few = 0; few < 10; ++few) {
      probe[0] = static_cast<float>(few);
      model.margins(probe, margins);
      // Each tree is monotone; their float32 sum is, too, since rounding is.
      EXPECT_GE(margins[0], last);
      last = margins[0];
    }
  }
}

SUPERSTEP_WORLD_TEST(BoostedTrees, ContributionsAddUpToTheMargin) {
  const Made made(world, 800, "classes");
  const Table table = made.read(world);
  const BoostedTrees model =
      train_boosted_trees(world, table, "label", small_options(Objective::kMulticlass)).model;
  const FeatureContributions contributions(model);
  RowReader rows(model, table);
  const auto outputs = static_cast<std::size_t>(model.num_outputs());
  std::vector<float> margins(outputs);
  std::vector<double> parts(outputs * contributions.width());
  for (std::size_t row = 0; row < static_cast<std::size_t>(table.num_rows); row += 7) {
    const std::span<const float> read = rows.read(row);
    model.margins(read, margins);
    contributions.explain(read, parts);
    for (std::size_t k = 0; k < outputs; ++k) {
      double sum = 0.0;
      for (std::size_t f = 0; f < contributions.width(); ++f) {
        sum += parts[k * contributions.width() + f];
      }
      EXPECT_NEAR(sum, margins[k], 1e-5);  // the margin is a float32 sum of 8 trees
    }
  }
}

SUPERSTEP_WORLD_TEST(BoostedTrees, RefuseWhatCannotBeTrained) {
  const Made made(world, 50, "classes");
  const Table table = made.read(world);
  const auto refused = [&](const BoostedTreesOptions& options, std::string_view label) {
    EXPECT_THROW(train_boosted_trees(world, table, label, options), InvalidArgument);
  };
  BoostedTreesOptions options = small_options(Objective::kMulticlass);
  refused(options, "lable");
  refused(small_options(Objective::kBinaryLogistic), "label");  // five classes
  refused(small_options(Objective::kSquaredError), "label");
  options.rules.monotone = {0, 0, 1, 0, 0};  // a category
  refused(options, "label");
  options.rules.monotone = {1};
  refused(options, "label");
  options = small_options(Objective::kMulticlass);
  options.early_stopping_rounds = 5;
  refused(options, "label");
  options = small_options(Objective::kMulticlass);
  options.max_bin = 1;
  refused(options, "label");
}

SUPERSTEP_WORLD_TEST(BoostedTrees, RefuseRowsWithoutALabel) {
  const WorldDirectory directory(world);
  const std::filesystem::path path = directory.path() / "rows.csv";
  if (world.rank() == 0) {
    write_file_atomically(path, "x,label\n1,a\n2,b\n3,?\n4,a\n");
  }
  world.sync();
  const MappedFile file(path);
  const CsvDialect dialect;
  const Table table = read_table(world, file, infer_schema(file, dialect, {}), dialect);
  EXPECT_THROW(
      train_boosted_trees(world, table, "label", small_options(Objective::kBinaryLogistic)),
      DataError);
}

}  // namespace
}  // namespace superstep::worker
