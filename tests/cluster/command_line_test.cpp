// The grammar of the command line and what is made from it.
#include "cluster/command_line.h"

#include <initializer_list>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"

namespace superstep::cluster {
namespace {

using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

Command parse(std::initializer_list<const char*> arguments) {
  std::vector<const char*> argv = {"superstep"};
  argv.insert(argv.end(), arguments);
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

std::string printed(std::initializer_list<const char*> arguments) {
  return std::get<PrintArguments>(parse(arguments)).text;
}

std::string complaint(std::initializer_list<const char*> arguments) {
  return error_text<InvalidArgument>([&] { parse(arguments); });
}

TEST(CommandLine, ReadsTrain) {
  const auto train =
      std::get<TrainArguments>(parse({"train", "--set", "a.b=1", "run.toml", "--set", "c.d=x y",
                                      "--lanes", "3", "--out", "runs/a b", "--resume"}));
  EXPECT_EQ(train.config, "run.toml");
  EXPECT_THAT(train.overrides, ElementsAre("a.b=1", "c.d=x y"));
  EXPECT_EQ(train.lanes, 3);
  EXPECT_EQ(train.out, "runs/a b");
  EXPECT_TRUE(train.resume);
  EXPECT_FALSE(train.dry_run);
  EXPECT_FALSE(train.servers.has_value());
  EXPECT_EQ(std::get<TrainArguments>(parse({"train", "run.toml", "--servers", "2"})).servers, 2);
  EXPECT_THAT(complaint({"train", "run.toml", "--servers", "-1"}), HasSubstr("--servers"));
}

TEST(CommandLine, KeepsListsOfOverridesWhole) {
  const auto train = std::get<TrainArguments>(
      parse({"train", "run.toml", "--set", "optimizer.schedule.boundaries_epochs=[1, 2]"}));
  EXPECT_THAT(train.overrides, ElementsAre("optimizer.schedule.boundaries_epochs=[1, 2]"));
}

TEST(CommandLine, LaunchSharesItsOptionsWithMpirun) {
  const auto launch = std::get<LaunchArguments>(
      parse({"launch", "-n", "4", "--restarts", "7", "--mca", "a", "b", "--grace=2.5", "-H",
             "a:2,b", "--", "train", "run.toml", "--out", "runs/a", "--set", "a.b=1"}));
  EXPECT_THAT(launch.mpirun_options, ElementsAre("-n", "4", "--mca", "a", "b", "-H", "a:2,b"));
  EXPECT_EQ(launch.max_restarts, 7);
  EXPECT_EQ(launch.grace_seconds, 2.5);
  EXPECT_EQ(launch.train.out, "runs/a");
  EXPECT_THAT(launch.train_words,
              ElementsAre("train", "run.toml", "--out", "runs/a", "--set", "a.b=1"));
}

TEST(CommandLine, LaunchNeedsATrainCommand) {
  EXPECT_THAT(complaint({"launch", "-n", "2"}), HasSubstr("needs \"--\" and a train command"));
  EXPECT_THAT(complaint({"launch", "--"}), HasSubstr("needs \"--\" and a train command"));
  EXPECT_THAT(complaint({"launch", "--", "keys"}), HasSubstr("supervises train"));
  EXPECT_THAT(complaint({"launch", "--", "train", "--lanes", "0"}), HasSubstr("--lanes"));
  EXPECT_THAT(complaint({"launch", "--grace", "soon", "--", "train", "a"}), HasSubstr("--grace"));
}

TEST(CommandLine, ReadsTheOtherCommands) {
  EXPECT_EQ(
      std::get<EvaluateArguments>(parse({"evaluate", "runs/a", "--data", "d"})).data_directory,
      "d");
  EXPECT_EQ(
      std::get<PredictArguments>(parse({"predict", "r", "--input", "i", "--output", "o"})).output,
      "o");
  EXPECT_EQ(std::get<InspectArguments>(parse({"inspect", "p"})).path, "p");
  EXPECT_EQ(std::get<ExportArguments>(parse({"export", "r"})).format, "npz");
}

TEST(CommandLine, ReadsBench) {
  const auto bench = std::get<BenchArguments>(
      parse({"bench", "--model", "wide-mlp", "--batch", "32", "--steps", "7", "--microbatches", "4",
             "--precision", "bf16", "--lanes", "2", "--json", "--profile"}));
  EXPECT_EQ(bench.model, "wide-mlp");
  EXPECT_EQ(bench.batch, 32);
  EXPECT_EQ(bench.steps, 7);
  EXPECT_EQ(bench.microbatches, 4);
  EXPECT_EQ(bench.precision, "bf16");
  EXPECT_EQ(bench.lanes, 2);
  EXPECT_TRUE(bench.json);
  EXPECT_TRUE(bench.profile);
  EXPECT_THAT(complaint({"bench", "--model", "vgg"}), HasSubstr("--model"));
  EXPECT_THAT(complaint({"bench", "--precision", "fp16"}), HasSubstr("--precision"));
  EXPECT_THAT(complaint({"bench", "--batch", "0"}), HasSubstr("--batch"));
  EXPECT_THAT(complaint({"bench", "--steps", "0"}), HasSubstr("--steps"));
  EXPECT_THAT(complaint({"bench", "--microbatches", "0"}), HasSubstr("--microbatches"));
  EXPECT_THAT(complaint({"bench", "--step", "3"}), HasSubstr("did you mean \"--steps\"?"));
}

TEST(CommandLine, ReadsEstimator) {
  const auto estimator =
      std::get<EstimatorArguments>(parse({"estimator", "train", "--kind",     "boosted-trees",
                                          "--data",    "a.csv", "--label",    "y",
                                          "--columns", "x,y",   "--monotone", "x=1",
                                          "--missing", "none",  "--missing",  "-",
                                          "--rounds",  "7",     "--gamma",    "0.5",
                                          "--seed",    "9",     "--lanes",    "2"}));
  EXPECT_EQ(estimator.data, "a.csv");
  EXPECT_THAT(estimator.columns, ElementsAre("x", "y"));
  EXPECT_THAT(estimator.monotone, ElementsAre("x=1"));
  EXPECT_THAT(estimator.missing, ElementsAre("none", "-"));
  EXPECT_EQ(estimator.rounds, 7);
  EXPECT_EQ(estimator.gamma, 0.5);
  EXPECT_EQ(estimator.max_depth, std::nullopt);
  EXPECT_EQ(estimator.seed, 9U);
  EXPECT_THAT(complaint({"estimator", "train", "--data", "a", "--label", "y"}),
              HasSubstr("--kind is required"));
  EXPECT_THAT(complaint({"estimator", "train", "--kind", "linear"}), HasSubstr("boosted-trees"));
  EXPECT_THAT(complaint({"estimator", "predict", "--kind", "boosted-trees"}), HasSubstr("train"));
}

TEST(CommandLine, SaysWhatIsWrong) {
  EXPECT_THAT(complaint({}), HasSubstr("subcommand is required"));
  EXPECT_THAT(complaint({"trian"}), HasSubstr("did you mean \"train\"?"));
  EXPECT_THAT(complaint({"train"}), HasSubstr("config is required"));
  EXPECT_THAT(complaint({"train", "a.toml", "--lane", "2"}),
              HasSubstr("did you mean \"--lanes\"?"));
  EXPECT_THAT(complaint({"train", "a.toml", "--lanes", "0"}), HasSubstr("--lanes"));
  EXPECT_THAT(complaint({"train", "a.toml", "--lanes", "two"}), HasSubstr("--lanes"));
  EXPECT_THAT(complaint({"predict", "r", "--input", "i"}), HasSubstr("--output is required"));
  EXPECT_THAT(complaint({"export", "r", "--format", "hdf5"}), HasSubstr("npz"));
}

TEST(CommandLine, HelpsWithEveryCommand) {
  EXPECT_THAT(printed({"--help"}), HasSubstr("Exit codes"));
  for (const char* command : {"train", "evaluate", "predict", "inspect", "export", "estimator",
                              "bench", "models", "keys", "completion"}) {
    EXPECT_THAT(printed({"--help"}), HasSubstr(command));
    EXPECT_THAT(printed({command, "--help"}),
                HasSubstr("Usage: superstep " + std::string(command)));
  }
}

TEST(CommandLine, PrintsItsVersionAndLibraries) {
  EXPECT_THAT(printed({"--version"}), HasSubstr("superstep "));
  EXPECT_THAT(printed({"--version"}), HasSubstr("Open MPI 4"));
  EXPECT_THAT(printed({"--version"}), HasSubstr("Eigen 3"));
  EXPECT_THAT(printed({"--version"}), ::testing::Not(HasSubstr("unknown,")));
}

TEST(CommandLine, ListsModelsWithTheirParameterCounts) {
  const std::string text = printed({"models"});
  for (const char* count : {"7,850", "199,210", "1,663,370", "269,722"}) {
    EXPECT_THAT(text, HasSubstr(count));
  }
}

TEST(Completion, KnowsEveryCommandAndOption) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = printed({"completion", shell});
    for (const char* word : {"train", "evaluate", "predict", "inspect", "export", "lanes", "resume",
                             "dry-run", "train.epochs=", "optimizer.schedule.kind="}) {
      EXPECT_THAT(script, HasSubstr(word)) << shell;
    }
  }
}

}  // namespace
}  // namespace superstep::cluster
