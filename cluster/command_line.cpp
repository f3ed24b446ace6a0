#include "cluster/command_line.h"

#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "cluster/completion.h"
#include "cluster/config_keys.h"
#include "cluster/libraries.h"
#include "cluster/model_section.h"

namespace superstep::cluster {

namespace {

constexpr int kMaxLanes = 1024;

// What the parser fills in.
struct Grammar {
  Grammar();

  CLI::App app{"Superstep trains models on CPU clusters, in bulk-synchronous supersteps.",
               "superstep"};
  TrainArguments train;
  EvaluateArguments evaluate;
  PredictArguments predict;
  InspectArguments inspect;
  ExportArguments export_weights;
  std::string shell;
  bool markdown = false;
};

// A path: an empty one would silently mean the default.
CLI::Option* add_path(CLI::App& app, const std::string& name, std::string& path,
                      const std::string& help) {
  return app.add_option(name, path, help)->check([](const std::string& given) {
    return given.empty() ? std::string("got an empty path") : std::string();
  });
}

void add_lanes(CLI::App& app, std::optional<int>& lanes) {
  app.add_option("--lanes", lanes, "Ranks per process, as threads; overrides bsp.lanes")
      ->check(CLI::Range(1, kMaxLanes))
      ->type_name("N");
}

void add_checkpoint(CLI::App& app, std::string& checkpoint) {
  add_path(app, "--checkpoint", checkpoint,
           "Use this checkpoint directory; the default is the newest of the run that verifies")
      ->type_name("DIR");
}

void add_force(CLI::App& app, bool& force) {
  app.add_flag("--force", force, "Replace the output file when it exists");
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
      "  superstep train runs/a/config.toml --out runs/a --resume");
  add_path(app, "config", arguments.config,
           "The run's configuration (superstep keys lists the keys)")
      ->required()
      ->type_name("CONFIG.toml");
  app.add_option("--set", arguments.overrides, "Override a key; may be given several times")
      ->allow_extra_args(false)
      ->type_name("SECTION.KEY=VALUE");
  add_lanes(app, arguments.lanes);
  add_path(app, "--out", arguments.out,
           "The run directory: new or empty (default: runs/<name of the config>-<time>)")
      ->type_name("DIR");
  app.add_flag("--resume", arguments.resume,
               "Continue the run in --out from its newest checkpoint, on any number of ranks");
  app.add_flag("--dry-run", arguments.dry_run,
               "Print slots, steps, parameters and memory; train nothing, write nothing");
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
    if (const std::string complaint = unknown_command(grammar); !complaint.empty()) {
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
  add_evaluate(app, evaluate);
  add_predict(app, predict);
  add_inspect(app, inspect);
  add_export(app, export_weights);
  add_printing(app, *this);
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
  Grammar grammar;
  try {
    grammar.app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return PrintArguments{grammar.app.help()};
  } catch (const CLI::CallForVersion& version) {
    return PrintArguments{std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    throw InvalidArgument("command line", usage_problem(grammar, error));
  }
  return chosen_command(grammar);
}

}  // namespace superstep::cluster
