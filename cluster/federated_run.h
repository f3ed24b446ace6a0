// One federated run as the program executes it: prepared once per process, executed by every rank.
// The counterpart of cluster/train_run.h; the two leave the same things in a run directory.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
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
  void train_on_rank(bsp::World& world);
  // Collective: the clients as this rank can read them, the same ones on every rank.
  ClientParts agree_on_clients(bsp::World& world) const;
  // Collective: the options for these clients, with the same devices on every rank.
  worker::FederatedOptions options_of_rank(bsp::World& world,
                                           const worker::ClientData& clients) const;
  void explain_time(const std::shared_ptr<const worker::ClientData>& clients,
                    const worker::FederatedOptions& options) const;
  void initialize(worker::FederatedTrainer& trainer) const;
  std::string_view initial_model() const;  // as the ledger names it
  void start_reports(const bsp::World& world, const worker::ClientData& clients,
                     FederatedReporter& reporter) const;
  void report_outcome(bsp::World& world, const worker::FederatedTrainer& trainer,
                      const ClientParts& clients, const worker::FederatedResult& result,
                      FederatedReporter& reporter);
  RunSummary summary_of(const bsp::World& world, const worker::FederatedTrainer& trainer,
                        const worker::ClientData& clients, const worker::FederatedResult& result,
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
