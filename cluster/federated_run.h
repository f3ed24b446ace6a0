// One federated run as the program executes it: prepared once per process, executed by every rank.
// The counterpart of cluster/train_run.h; the two leave the same things in a run directory.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/clock.h"
#include "bsp/environment.h"
#include "bsp/world.h"
#include "cluster/command_line.h"
#include "cluster/federated_reporter.h"
#include "cluster/federated_setup.h"
#include "cluster/run_opening.h"
#include "cluster/summary.h"

namespace superstep::cluster {

class FederatedRun {
 public:
  // `environment` must outlive this object. Throws one of the project's errors.
  FederatedRun(bsp::Environment& environment, const TrainArguments& arguments,
               const std::vector<std::string>& command);

  int execute();

 private:
  void explain_on_rank(bsp::World& world) const;  // --dry-run
  void explain_time(const worker::FederatedOptions& options) const;
  void train_on_rank(bsp::World& world);
  void require_same_clients(bsp::World& world) const;
  void initialize(worker::FederatedTrainer& trainer) const;
  void start_reports(const bsp::World& world, FederatedReporter& reporter) const;
  void report_outcome(bsp::World& world, const worker::FederatedTrainer& trainer,
                      const worker::FederatedResult& result, FederatedReporter& reporter);
  RunSummary summary_of(const bsp::World& world, const worker::FederatedTrainer& trainer,
                        const worker::FederatedResult& result,
                        const FederatedReporter& reporter) const;

  bsp::Environment& environment_;
  const TrainArguments arguments_;
  const std::string command_line_;
  const Launch launch_;
  const Stopwatch since_start_;
  FederatedSetup setup_;
  RunOpening opening_;
  std::atomic<int> exit_code_{0};  // the same from every rank
};

}  // namespace superstep::cluster
