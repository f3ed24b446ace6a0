#include "cluster/program.h"

#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/environment.h"
#include "cluster/command_line.h"
#include "cluster/commands.h"
#include "cluster/standard_streams.h"
#include "cluster/stop_signals.h"

namespace superstep::cluster {

namespace {

struct Failure {
  std::string message;
  int exit_code = static_cast<int>(ExitCode::kFailure);
};

// What a call that throws says, or nothing.
template <typename Call>
std::optional<Failure> failure_of(const Call& call) {
  try {
    call();
    return std::nullopt;
  } catch (const Error& error) {
    return Failure{error.what(), static_cast<int>(error.exit_code())};
  } catch (const std::exception& error) {
    return Failure{error.what()};
  }
}

Work print(const PrintArguments& arguments) {
  return [text = arguments.text] {
    fmt::print("{}", text);
    return 0;
  };
}

class Preparer {
 public:
  Preparer(bsp::Environment& environment, std::vector<std::string> command)
      : environment_(environment), command_(std::move(command)) {}

  Work operator()(const TrainArguments& arguments) const {
    return prepare_train(environment_, arguments, command_);
  }
  Work operator()(const FederatedArguments& arguments) const {
    return prepare_federated(environment_, arguments, command_);
  }
  Work operator()(const EvaluateArguments& arguments) const {
    return prepare_evaluate(environment_, arguments);
  }
  Work operator()(const LaunchArguments& arguments) const {
    return prepare_launch(environment_, arguments, fmt::format("{}", fmt::join(command_, " ")));
  }
  Work operator()(const EstimatorArguments& arguments) const {
    return prepare_estimator(environment_, arguments);
  }
  Work operator()(const BenchArguments& arguments) const {
    return prepare_bench(environment_, arguments);
  }
  Work operator()(const PartitionArguments& arguments) const {
    return on_root([&] { return prepare_partition(arguments); });
  }
  Work operator()(const PredictArguments& arguments) const {
    return on_root([&] { return prepare_predict(arguments); });
  }
  Work operator()(const InspectArguments& arguments) const {
    return on_root([&] { return prepare_inspect(arguments); });
  }
  Work operator()(const ExportArguments& arguments) const {
    return on_root([&] { return prepare_export(arguments); });
  }
  Work operator()(const PrintArguments& arguments) const {
    return on_root([&] { return print(arguments); });
  }

 private:
  template <typename Prepare>
  Work on_root(const Prepare& prepare) const {
    return environment_.is_root_process() ? prepare() : Work([] { return 0; });
  }

  bsp::Environment& environment_;
  std::vector<std::string> command_;
};

// A training that is asked to stop while it is being set up ends in order, too. The launcher has
// its own way with signals (cluster/signal_inbox.h).
void take_signals(const Command& command) {
  if (std::holds_alternative<LaunchArguments>(command)) {
    survive_lost_readers();
  }
  const auto* train = std::get_if<TrainArguments>(&command);
  if (const auto* federated = std::get_if<FederatedArguments>(&command)) {
    train = &federated->run;
  }
  if (train != nullptr && !train->dry_run) {
    survive_lost_readers();
    install_stop_signals(bsp::Environment::launched_by_mpirun() ? HandleInterrupt::kNo
                                                                : HandleInterrupt::kYes);
  }
}

int prepare_and_work(int argc, const char* const* argv) {
  Command command;
  std::optional<Failure> unprepared = failure_of([&] { command = parse_command_line(argc, argv); });
  if (!unprepared) {
    take_signals(command);
  }
  bsp::Environment environment;
  Work work;
  if (!unprepared) {
    unprepared = failure_of([&] {
      work = std::visit(Preparer(environment, {argv, argv + argc}), command);
    });
  }
  const std::optional<std::string> message =
      unprepared ? std::optional(unprepared->message) : std::nullopt;
  if (!environment.agree_on_setup(message)) {
    // A process without a fault of its own leaves the exit code to the others.
    return unprepared ? unprepared->exit_code : 0;
  }
  int exit_code = 0;
  const std::optional<Failure> failed = failure_of([&] { exit_code = work(); });
  if (failed) {
    // Said before MPI ends: that waits for the other processes.
    write_line(stderr, fmt::format("superstep: {}", failed->message));
  }
  return failed ? failed->exit_code : exit_code;
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  int exit_code = 0;
  std::optional<Failure> failed = failure_of([&] { exit_code = prepare_and_work(argc, argv); });
  if (!failed && exit_code != static_cast<int>(ExitCode::kFailure)) {
    if (const std::optional<std::string> unwritten = unwritten_output()) {
      failed = Failure{*unwritten};
    }
  }
  if (failed) {
    write_line(stderr, fmt::format("superstep: {}", failed->message));
  }
  // What stopped the program says more than what became of its last lines.
  return failed && exit_code == 0 ? failed->exit_code : exit_code;
}

}  // namespace superstep::cluster
