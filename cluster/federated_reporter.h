// What one rank does with the news of its federated run: every rank keeps totals, the root rank
// tells people and writes metrics.jsonl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "cluster/metrics_log.h"
#include "cluster/progress.h"
#include "cluster/run_directory.h"
#include "cluster/summary.h"
#include "worker/federated/federated_trainer.h"

namespace superstep::cluster {

// `round 20/100  loss 0.4120  test accuracy 0.8731  5.2 k clients/s  1 rejected`
std::string round_line(const worker::RoundReport& report, std::int64_t rounds);

class FederatedReporter : public worker::FederatedObserver {
 public:
  explicit FederatedReporter(RunDirectory directory) : directory_(std::move(directory)) {}

  // Makes this the root's reporter.
  void speak(const ProgressOptions& options, std::int64_t rounds, std::int64_t log_every_rounds,
             std::string resume_command);
  // Of the ledger's lines (MetricsLog::on_privacy); "random" unless told.
  void set_initial_model(std::string_view name) { initial_model_ = name; }

  // Throws DataError (exit code 6) when the test loss is no number: on every rank at the same
  // round.
  void on_round(const worker::RoundReport& report) override;
  void on_audit(std::int64_t round, std::span<const worker::AuditEntry> entries) override;
  void on_checkpoint(const std::filesystem::path& directory, std::int64_t round,
                     double seconds) override;
  // Appends to the ledger of a private run; root only.
  void on_private_round(std::int64_t round, const worker::PrivacyRound& privacy) override;
  void say(const std::string& line);

  const RankTotals& totals() const { return totals_; }
  double checkpoint_seconds() const { return checkpoint_seconds_; }
  std::int64_t checkpoints_written() const { return checkpoints_written_; }

 private:
  RunDirectory directory_;
  RankTotals totals_;
  double checkpoint_seconds_ = 0.0;
  std::int64_t checkpoints_written_ = 0;
  std::int64_t rounds_ = 0;
  std::string resume_command_;
  std::string initial_model_ = "random";
  Clock::time_point last_line_;
  std::unique_ptr<Progress> progress_;   // root only
  std::unique_ptr<MetricsLog> metrics_;  // root only
  std::unique_ptr<MetricsLog> ledger_;   // root of a private run, from its first round on
  std::unique_ptr<MetricsLog> audit_;    // root of an audited run, from its first round on
};

}  // namespace superstep::cluster
