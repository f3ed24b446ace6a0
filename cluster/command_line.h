// The command line of the `superstep` program.
//
//   superstep train CONFIG.toml [--set section.key=value]... [--lanes N] [--out DIR] [--resume]
//   [--dry-run]
//   superstep federated (as train)
//   superstep partition CONFIG.toml --sites N --out DIR [--set section.key=value]...
//   superstep evaluate RUN_DIR [--data DIR] [--lanes N]
//   superstep predict RUN_DIR --input FILE --output FILE [--force]
//   superstep inspect PATH
//   superstep export RUN_DIR [--format npz] [--output FILE] [--force]
//   superstep estimator train --kind boosted-trees --data FILE --label NAME [...]
//   superstep bench [--model NAME] [--batch N] [--steps N]
//   superstep models | keys | completion SHELL
//   superstep launch [mpirun's options] -- train CONFIG.toml ...
//
// parse_command_line reads it into values; nothing is done and nothing printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace superstep::cluster {

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;  // section.key=value, in order
  std::optional<int> lanes;
  std::optional<int> servers;
  std::string out;  // empty: runs/<name of the config>-<time>
  bool resume = false;
  bool dry_run = false;
};

// superstep federated takes what superstep train takes.
struct FederatedArguments {
  TrainArguments run;
};

// The clients of a federated run as data of sites.
struct PartitionArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::int64_t sites = 0;
  std::string out;
};

struct EvaluateArguments {
  std::string run_directory;
  std::string data_directory;  // empty: the run's own
  std::string checkpoint;      // empty: the newest
  std::optional<int> lanes;
};

struct PredictArguments {
  std::string run_directory;
  std::string input;
  std::string output;
  bool force = false;      // replace the output when it exists
  std::string checkpoint;  // empty: the newest
};

struct InspectArguments {
  std::string path;
};

struct ExportArguments {
  std::string run_directory;
  std::string format = "npz";
  std::string output;      // empty: RUN_DIR/parameters.npz
  bool force = false;      // replace the output when it exists
  std::string checkpoint;  // empty: the newest
};

// A training under supervision: mpirun is started, watched and started again.
struct LaunchArguments {
  std::vector<std::string> mpirun_options;  // all that are not the launcher's own, in order
  std::string mpirun = "mpirun";
  int max_restarts = 100;
  double grace_seconds = 30.0;
  double hang_seconds = 600.0;  // 0: never
  TrainArguments train;
  std::vector<std::string> train_words;  // what follows "--", in order
};

struct BenchArguments {
  std::string model = "cnn";  // one of bench_models()
  std::int64_t batch = 64;    // samples per rank and step
  std::int64_t steps = 50;
  std::int64_t microbatches = 0;  // slots; 0: one per rank
  std::string precision = "float32";
  int lanes = 1;
  bool json = false;
  bool profile = false;
};

// superstep estimator train: a model of a table. The options of worker::BoostedTreesOptions keep
// their defaults there; what was not given is absent here.
struct EstimatorArguments {
  std::string action;  // "train"
  std::string kind;    // "boosted-trees"
  std::string data;
  std::string eval_data;             // empty: none
  std::vector<std::string> columns;  // names, for files without a header
  std::string schema;                // a file of names and kinds; empty: none
  std::string delimiter = ",";       // one character, or "tab"
  std::vector<std::string> missing;  // words for no value, beside the usual ones
  std::string label;
  std::string objective;  // empty: as the label is
  std::string out;        // empty: nothing is written
  std::string contributions;
  std::optional<int> rounds;
  std::optional<int> max_depth;
  std::optional<double> learning_rate;
  std::optional<double> lambda;
  std::optional<double> gamma;
  std::optional<double> min_child_weight;
  std::optional<int> max_bin;
  std::optional<int> max_cat_to_onehot;
  std::optional<double> subsample;
  std::optional<double> colsample;
  std::optional<double> base_score;
  std::optional<double> validation_fraction;
  std::optional<int> early_stopping;
  std::vector<std::string> monotone;  // "column=1" or "column=-1"
  std::uint64_t seed = 1;
  std::optional<int> lanes;
};

// Text that a command prints as it is: help, version, completion scripts, lists.
struct PrintArguments {
  std::string text;
};

using Command = std::variant<TrainArguments, FederatedArguments, PartitionArguments,
                             EvaluateArguments, PredictArguments, InspectArguments, ExportArguments,
                             LaunchArguments, EstimatorArguments, BenchArguments, PrintArguments>;

// Throws InvalidArgument with what is wrong and which help to ask for.
Command parse_command_line(int argc, const char* const* argv);

}  // namespace superstep::cluster
