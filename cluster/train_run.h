// One training as the program runs it: prepared once per process, executed by every rank.
//
// Preparing reads and checks everything (configuration, data, model, the run directory); executing
// makes the run directory, trains, and writes what a run leaves behind (cluster/run_directory.h).
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "bsp/environment.h"
#include "bsp/world.h"
#include "cluster/command_line.h"
#include "cluster/run_opening.h"
#include "cluster/setup.h"
#include "cluster/summary.h"
#include "cluster/train_reporter.h"

namespace superstep::cluster {

class TrainRun {
 public:
  // `environment` must outlive this object. Throws one of the project's errors.
  TrainRun(bsp::Environment& environment, const TrainArguments& arguments,
           const std::vector<std::string>& command);

  int execute();

 private:
  static void require_not_stopped();
  void require_enough_slots() const;
  void explain_on_rank(bsp::World& world) const;  // --dry-run
  void train_on_rank(bsp::World& world);
  void note_open_run(const bsp::World& world, const RunDirectory& directory);
  void initialize(paramserver::CollocatedServer& server) const;
  void start_reports(const bsp::World& world, TrainReporter& reporter) const;
  void report_outcome(bsp::World& world, const paramserver::CollocatedServer& server,
                      const worker::TrainResult& result, TrainReporter& reporter);
  RunSummary summary_of(const bsp::World& world, const worker::TrainResult& result,
                        const TrainReporter& reporter) const;
  // What to do about a rank that failed: the newest checkpoint and how to go on from it.
  std::string remedy(ExitCode exit_code) const;
  void say_outcome(const worker::TrainResult& result, TrainReporter& reporter) const;

  bsp::Environment& environment_;
  const TrainArguments arguments_;
  const std::string command_line_;
  const Launch launch_;
  const Stopwatch since_start_;
  RunSetup setup_;
  RunOpening opening_;
  std::atomic<int> exit_code_{0};  // the same from every rank

  mutable std::mutex open_run_mutex_;
  std::optional<RunDirectory> open_run_;  // once it exists on disk; in every process
};

}  // namespace superstep::cluster
