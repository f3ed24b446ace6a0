#include "cluster/command_line.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "cluster/completion.h"
#include "cluster/config_keys.h"
#include "cluster/estimator_options.h"
#include "cluster/libraries.h"
#include "cluster/model_section.h"
#include "cluster/shared_options.h"

namespace superstep::cluster {

namespace {

// What the parser fills in.
struct Grammar {
  Grammar();

  CLI::App app{"Superstep trains models on CPU clusters, in bulk-synchronous supersteps.",
               "superstep"};
  TrainArguments train;
  FederatedArguments federated;
  PartitionArguments partition;
  EvaluateArguments evaluate;
  PredictArguments predict;
  InspectArguments inspect;
  ExportArguments export_weights;
  LaunchArguments launch;
  EstimatorArguments estimator;
  BenchArguments bench;
  std::string shell;
  bool markdown = false;
};

void add_checkpoint(CLI::App& app, std::string& checkpoint) {
  add_path(app, "--checkpoint", checkpoint,
           "Use this checkpoint directory; the default is the newest of the run that verifies")
      ->type_name("DIR");
}

void add_force(CLI::App& app, bool& force) {
  app.add_flag("--force", force, "Replace the output file when it exists");
}

void add_config(CLI::App& app, std::string& config, std::vector<std::string>& overrides) {
  add_path(app, "config", config, "The run's configuration (superstep keys lists the keys)")
      ->required()
      ->type_name("CONFIG.toml");
  app.add_option("--set", overrides, "Override a key; may be given several times")
      ->allow_extra_args(false)
      ->type_name("SECTION.KEY=VALUE");
}

void add_run_options(CLI::App& app, TrainArguments& arguments) {
  add_config(app, arguments.config, arguments.overrides);
  add_lanes(app, arguments.lanes);
  add_path(app, "--out", arguments.out,
           "The run directory: new or empty (default: runs/<name of the config>-<time>)")
      ->type_name("DIR");
  app.add_flag("--resume", arguments.resume,
               "Continue the run in --out from its newest checkpoint, on any number of ranks");
  app.add_flag("--dry-run", arguments.dry_run,
               "Print slots, steps, parameters and memory; train nothing, write nothing");
}

void add_train(CLI::App& program, TrainArguments& arguments) {
  CLI::App& app = *program.add_subcommand("train", "Train a model as a TOML file describes it");
  app.footer(
      "Ranks are processes x lanes: run it alone, or as `mpirun -n 4 superstep train ...`.\n"
      "The number of ranks never changes the result. SIGTERM, SIGUSR1 and the wall-time limit\n"
      "end the run at a superstep with a checkpoint (exit code 75); the message that goes with it\n"
      "is the command that resumes.\n\n"
      "Examples:\n"
      "  superstep train examples/fashion_mnist_mlp.toml --lanes 2\n"
      "  mpirun -n 2 superstep train run.toml --set train.epochs=2 --set optimizer.kind=adam\n"
      "  mpirun -n 6 superstep train run.toml --servers 2\n"
      "  superstep train runs/a/config.toml --out runs/a --resume");
  add_run_options(app, arguments);
  app.add_option("--servers", arguments.servers,
                 "Ranks that own parameters and compute nothing; overrides server.servers")
      ->check(CLI::Range(0, std::numeric_limits<int>::max()))
      ->type_name("N");
}

void add_federated(CLI::App& program, TrainArguments& arguments) {
  CLI::App& app = *program.add_subcommand(
      "federated", "Simulate federated learning: rounds of clients that keep their data");
  app.footer(
      "The section [federated] of the configuration says rounds, clients, cohort, algorithm and\n"
      "partition (docs/federated.md). The number of ranks never changes the result.\n\n"
      "Examples:\n"
      "  mpirun -n 2 superstep federated examples/fedavg_fashion_mnist_2nn.toml\n"
      "  superstep federated run.toml --lanes 4 --set federated.partition=shards");
  add_run_options(app, arguments);
}

void add_partition(CLI::App& program, PartitionArguments& arguments) {
  constexpr std::int64_t kMostSites = 1'000'000;
  CLI::App& app = *program.add_subcommand(
      "partition", "Divide the data of a federated run among sites, a directory each");
  app.footer(
      "Every site gets clients with their samples; the test data lie beside the sites. A run with\n"
      "federated.data_mode = \"strict\" reads them: each rank the sites that it owns.\n\n"
      "Example:\n"
      "  superstep partition examples/fedavg_fashion_mnist_2nn.toml --sites 4 --out sites");
  add_config(app, arguments.config, arguments.overrides);
  app.add_option("--sites", arguments.sites, "How many")
      ->required()
      ->check(CLI::Range(std::int64_t{1}, kMostSites))
      ->type_name("N");
  add_path(app, "--out", arguments.out, "Directory to write: new or empty")
      ->required()
      ->type_name("DIR");
}

void add_evaluate(CLI::App& program, EvaluateArguments& arguments) {
  CLI::App& app = *program.add_subcommand("evaluate", "Loss and accuracy of a trained model");
  add_path(app, "run", arguments.run_directory, "A run directory")
      ->required()
      ->type_name("RUN_DIR");
  add_path(app, "--data", arguments.data_directory,
           "Evaluate on the test files of this IDX directory instead of the run's own")
      ->type_name("DIR");
  add_checkpoint(app, arguments.checkpoint);
  add_lanes(app, arguments.lanes);
}

void add_predict(CLI::App& program, PredictArguments& arguments) {
  CLI::App& app = *program.add_subcommand("predict", "Classify the images of an IDX file");
  app.footer("The output is a CSV file: index, predicted class, and one probability per class.");
  add_path(app, "run", arguments.run_directory, "A run directory")
      ->required()
      ->type_name("RUN_DIR");
  add_path(app, "--input", arguments.input, "Images in IDX format, plain or gzip")
      ->required()
      ->type_name("FILE");
  add_path(app, "--output", arguments.output, "CSV file to write")->required()->type_name("FILE");
  add_force(app, arguments.force);
  add_checkpoint(app, arguments.checkpoint);
}

void add_inspect(CLI::App& program, InspectArguments& arguments) {
  CLI::App& app = *program.add_subcommand(
      "inspect", "Say what a run directory, checkpoint, configuration or IDX file is, verified");
  add_path(app, "path", arguments.path, "What to look at")->required()->type_name("PATH");
}

void add_export(CLI::App& program, ExportArguments& arguments) {
  CLI::App& app = *program.add_subcommand("export", "Write the trained parameters to one file");
  app.footer("npz is NumPy's format: one array per parameter, named as the model names it.");
  add_path(app, "run", arguments.run_directory, "A run directory")
      ->required()
      ->type_name("RUN_DIR");
  app.add_option("--format", arguments.format, "Format of the file")
      ->capture_default_str()
      ->check(CLI::IsMember({"npz"}));
  add_path(app, "--output", arguments.output, "File to write (default: RUN_DIR/parameters.npz)")
      ->type_name("FILE");
  add_force(app, arguments.force);
  add_checkpoint(app, arguments.checkpoint);
}

void add_launch(CLI::App& program, LaunchArguments& arguments) {
  constexpr int kMostRestarts = 1'000'000;
  constexpr double kLongestGrace = 86'400.0;
  CLI::App& app = *program.add_subcommand(
      "launch", "Train under supervision: start mpirun, and start it again after a fault");
  app.footer(
      "superstep launch [OPTIONS] [options of mpirun] -- train CONFIG.toml ...\n\n"
      "What stands before -- goes to mpirun. After a fault the job continues from its newest "
      "valid\n"
      "checkpoint; a host that was named twice is left out; two restarts without a newer "
      "checkpoint\n"
      "end it. SIGTERM, SIGINT, SIGHUP and SIGUSR1 stop it with a checkpoint (exit code 75).\n\n"
      "Examples:\n"
      "  superstep launch -n 8 --hostfile hosts -- train run.toml --out runs/a\n"
      "  superstep launch -n 8 --hostfile hosts -- train runs/a/config.toml --out runs/a --resume");
  app.add_option("--restarts", arguments.max_restarts, "How often mpirun may be started again")
      ->capture_default_str()
      ->check(CLI::Range(0, kMostRestarts))
      ->type_name("N");
  app.add_option("--grace", arguments.grace_seconds,
                 "What the ranks may take for a checkpoint after a stop signal")
      ->capture_default_str()
      ->check(CLI::Range(0.0, kLongestGrace))
      ->type_name("SECONDS");
  app.add_option("--hang", arguments.hang_seconds,
                 "Restart a job in which no rank moved for this long; 0: never. Above "
                 "bsp.sync_deadline_seconds, and above what reading the data takes")
      ->capture_default_str()
      ->check(CLI::Range(0.0, kLongestGrace))
      ->type_name("SECONDS");
  app.add_option("--mpirun", arguments.mpirun, "The mpirun to start")
      ->capture_default_str()
      ->type_name("FILE");
}

void add_bench(CLI::App& program, BenchArguments& arguments) {
  constexpr std::int64_t kMostSteps = 1'000'000;
  constexpr std::int64_t kLargestBatch = 65'536;
  CLI::App& app = *program.add_subcommand(
      "bench", "Measure the training step of a standard model on synthetic data");
  app.footer(
      "Runs the trainer itself, alone or under mpirun, after a few steps to warm up. Prints "
      "samples\n"
      "per second, arithmetic against this machine's multiply-add peak (measured in the same "
      "run),\n"
      "and what a step is made of.\n\n"
      "Examples:\n"
      "  superstep bench --model cnn --batch 64 --steps 100\n"
      "  mpirun -n 2 superstep bench --model mlp --microbatches 8 --json");
  app.add_option("--model", arguments.model,
                 "mlp: 784-200-200-10; wide-mlp: 784-2048-2048-10; cnn: 5x5x32, 5x5x64, 512; "
                 "resnet20: on 32x32 images")
      ->capture_default_str()
      ->check(CLI::IsMember({"mlp", "wide-mlp", "cnn", "resnet20"}));
  app.add_option("--batch", arguments.batch, "Samples per rank and step")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, kLargestBatch))
      ->type_name("N");
  app.add_option("--steps", arguments.steps, "Supersteps to measure")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, kMostSteps))
      ->type_name("N");
  app.add_option("--microbatches", arguments.microbatches,
                 "Slots that the global batch is cut into (default: one per rank)")
      ->check(CLI::Range(std::int64_t{1}, kLargestBatch))
      ->type_name("M");
  app.add_option("--precision", arguments.precision,
                 "Of products and convolutions, as train.precision: float32 or bf16")
      ->capture_default_str()
      ->check(CLI::IsMember({"float32", "bf16"}));
  app.add_option("--lanes", arguments.lanes, "Ranks per process, as threads")
      ->capture_default_str()
      ->check(CLI::Range(1, kMostLanes))
      ->type_name("N");
  app.add_flag("--json", arguments.json, "Print one JSON object instead of text");
  app.add_flag("--profile", arguments.profile, "Time every op of the recorded step as well");
}

void add_printing(CLI::App& program, Grammar& grammar) {
  program.add_subcommand("models", "List the model presets");
  CLI::App& keys = *program.add_subcommand("keys", "List every configuration key with its default");
  keys.add_flag("--markdown", grammar.markdown, "As Markdown tables");
  CLI::App& completion = *program.add_subcommand("completion", "Print a completion script");
  completion.footer(
      "For example: superstep completion bash > "
      "~/.local/share/bash-completion/completions/superstep");
  completion.add_option("shell", grammar.shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("SHELL");
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

// The first word is none of the commands.
std::string unknown_command(const Grammar& grammar) {
  const std::vector<std::string> rest = grammar.app.remaining();
  if (rest.empty() || rest.front().starts_with('-')) {
    return {};
  }
  std::vector<std::string> commands;
  for (const CLI::App* command : grammar.app.get_subcommands({})) {
    commands.push_back(command->get_name());
  }
  return fmt::format("unknown command '{}'{} (superstep --help lists the commands)", rest.front(),
                     did_you_mean(rest.front(), commands));
}

std::string usage_problem(const Grammar& grammar, const CLI::ParseError& error) {
  const std::vector<CLI::App*> chosen = grammar.app.get_subcommands();
  const CLI::App& app = chosen.empty() ? grammar.app : *chosen.front();
  if (chosen.empty()) {
    if (std::string complaint = unknown_command(grammar); !complaint.empty()) {
      return complaint;
    }
  }
  std::string hint;
  for (const std::string& extra : app.remaining()) {
    const std::string name = extra.substr(0, extra.find('='));
    const std::vector<std::string> known = option_names(app);
    hint = hint.empty() ? did_you_mean(name, known) : hint;
  }
  return fmt::format("{}{} (superstep{} --help says what is possible)", error.what(), hint,
                     chosen.empty() ? "" : " " + app.get_name());
}

Command chosen_command(const Grammar& grammar) {
  const std::string name = grammar.app.get_subcommands().front()->get_name();
  if (name == "train") {
    return grammar.train;
  }
  if (name == "federated") {
    return grammar.federated;
  }
  if (name == "partition") {
    return grammar.partition;
  }
  if (name == "evaluate") {
    return grammar.evaluate;
  }
  if (name == "predict") {
    return grammar.predict;
  }
  if (name == "inspect") {
    return grammar.inspect;
  }
  if (name == "export") {
    return grammar.export_weights;
  }
  if (name == "launch") {
    return grammar.launch;
  }
  if (name == "estimator") {
    return grammar.estimator;
  }
  if (name == "bench") {
    return grammar.bench;
  }
  if (name == "models") {
    return PrintArguments{presets_as_text()};
  }
  if (name == "keys") {
    return PrintArguments{grammar.markdown ? keys_as_markdown() : keys_as_text()};
  }
  return PrintArguments{completion_script(grammar.app, grammar.shell)};
}

Grammar::Grammar() {
  app.require_subcommand(1);
  app.set_version_flag(
      "--version", [] { return full_version_text(); },
      "Version, commit, compiler, instruction set and libraries");
  app.footer(
      "Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 bad data, 4 bad checkpoint,\n"
      "5 ranks disagree, 6 numbers, 7 corruption found, 75 stopped but resumable.");
  add_train(app, train);
  add_federated(app, federated.run);
  add_partition(app, partition);
  add_evaluate(app, evaluate);
  add_predict(app, predict);
  add_inspect(app, inspect);
  add_export(app, export_weights);
  add_launch(app, launch);
  add_estimator(app, estimator);
  add_bench(app, bench);
  add_printing(app, *this);
}

// Any command line but that of launch, which mixes its options with those of mpirun.
Command parse_program(const std::vector<std::string>& words) {
  std::vector<const char*> argv(words.size());
  std::transform(words.begin(), words.end(), argv.begin(),
                 [](const std::string& word) { return word.c_str(); });
  Grammar grammar;
  try {
    grammar.app.parse(static_cast<int>(argv.size()), argv.data());
  } catch (const CLI::CallForHelp&) {
    return PrintArguments{grammar.app.help()};
  } catch (const CLI::CallForVersion& version) {
    return PrintArguments{std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    throw InvalidArgument("command line", usage_problem(grammar, error));
  }
  return chosen_command(grammar);
}

// The launcher's own options stand among those of mpirun: `own` gets the former.
void split_options(const std::vector<std::string>& words, std::vector<std::string>& own,
                   std::vector<std::string>& others) {
  Grammar grammar;
  const CLI::App& app = *grammar.app.get_subcommand("launch");
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    const CLI::Option* option = words[i].starts_with("--") || words[i] == "-h"
                                    ? app.get_option_no_throw(words[i].substr(0, equals))
                                    : nullptr;
    if (option == nullptr) {
      others.push_back(words[i]);
      continue;
    }
    own.push_back(words[i]);
    if (option->get_items_expected_max() > 0 && equals == std::string::npos &&
        i + 1 < words.size()) {
      own.push_back(words[++i]);
    }
  }
}

// words: program, "launch", options, "--", "train", ...
Command parse_launch(const std::vector<std::string>& words) {
  const auto separator = std::find(words.begin(), words.end(), "--");
  std::vector<std::string> own(words.begin(), words.begin() + 2);
  std::vector<std::string> mpirun_options;
  split_options({words.begin() + 2, separator}, own, mpirun_options);
  Command command = parse_program(own);
  auto* arguments = std::get_if<LaunchArguments>(&command);
  if (arguments == nullptr) {
    return command;  // help
  }
  if (separator == words.end() || separator + 1 == words.end()) {
    throw InvalidArgument("command line",
                          "superstep launch needs \"--\" and a train command after its options: "
                          "superstep launch -n 2 -- train CONFIG.toml");
  }
  arguments->mpirun_options = std::move(mpirun_options);
  arguments->train_words.assign(separator + 1, words.end());
  if (arguments->train_words.front() != "train") {
    throw InvalidArgument("command line",
                          fmt::format("superstep launch supervises train: got \"{}\" after \"--\"",
                                      arguments->train_words.front()));
  }
  std::vector<std::string> inner = {words.front()};
  inner.insert(inner.end(), separator + 1, words.end());
  Command supervised = parse_program(inner);
  const auto* train = std::get_if<TrainArguments>(&supervised);
  if (train == nullptr) {
    return supervised;  // train --help
  }
  arguments->train = *train;
  return command;
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  const std::vector<std::string> words(argv, argv + argc);
  return words.size() > 1 && words[1] == "launch" ? parse_launch(words) : parse_program(words);
}

}  // namespace superstep::cluster
