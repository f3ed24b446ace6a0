// One training as the program runs it: prepared once per process, executed by every rank.
//
// Preparing reads and checks everything (configuration, data, model, the run directory); executing
// makes the run directory, trains, and writes what a run leaves behind (cluster/run_directory.h).
#pragma once

#include <atomic>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "bsp/environment.h"
#include "bsp/world.h"
#include "cluster/command_line.h"
#include "cluster/provenance.h"
#include "cluster/run_directory.h"
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
  // What the root process decides and every rank is told.
  struct Decisions {
    RunDirectory directory;
    std::string run_id;
    std::filesystem::path checkpoint;  // to continue from; empty: from the start
  };

  static void require_not_stopped();
  void require_enough_slots() const;
  void choose_new_directory();
  void prepare_resume();
  bool is_root_rank(const bsp::World& world) const;

  void explain_on_rank(bsp::World& world) const;  // --dry-run
  void train_on_rank(bsp::World& world);
  Decisions agree(bsp::World& world) const;
  void note_open_run(const bsp::World& world, const RunDirectory& directory);
  void initialize(paramserver::CollocatedServer& server) const;
  void open_directory(const bsp::World& world);
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

  // Of the root process; the others learn them in agree().
  RunDirectory directory_{{}};
  Provenance provenance_;
  std::filesystem::path checkpoint_;
  std::int64_t resume_superstep_ = -1;
  std::vector<std::string> warnings_;  // about what the resumed run computes
  std::optional<RunLock> lock_;

  std::atomic<int> exit_code_{0};  // the same from every rank

  mutable std::mutex open_run_mutex_;
  std::optional<RunDirectory> open_run_;  // once it exists on disk; in every process
};

}  // namespace superstep::cluster
