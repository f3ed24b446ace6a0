// The command line of the `superstep` program.
//
//   superstep train CONFIG.toml [--set section.key=value]... [--lanes N] [--out DIR] [--resume]
//   [--dry-run] superstep evaluate RUN_DIR [--data DIR] [--lanes N] superstep predict RUN_DIR
//   --input FILE --output FILE [--force] superstep inspect PATH superstep export RUN_DIR [--format
//   npz]
//   [--output FILE] [--force] superstep models | keys | completion SHELL
//
// parse_command_line reads it into values; nothing is done and nothing printed.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace superstep::cluster {

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;  // section.key=value, in order
  std::optional<int> lanes;
  std::string out;  // empty: runs/<name of the config>-<time>
  bool resume = false;
  bool dry_run = false;
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

// Text that a command prints as it is: help, version, completion scripts, lists.
struct PrintArguments {
  std::string text;
};

using Command = std::variant<TrainArguments, EvaluateArguments, PredictArguments, InspectArguments,
                             ExportArguments, PrintArguments>;

// Throws InvalidArgument with what is wrong and which help to ask for.
Command parse_command_line(int argc, const char* const* argv);

}  // namespace superstep::cluster
