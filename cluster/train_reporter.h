// What one rank does with the news of its training: every rank keeps totals, the root rank tells
// people and writes metrics.jsonl.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cluster/metrics_log.h"
#include "cluster/progress.h"
#include "cluster/run_directory.h"
#include "cluster/summary.h"
#include "worker/trainer.h"

namespace superstep::cluster {

class TrainReporter : public worker::TrainObserver {
 public:
  // Of a rank that is not the root: totals only.
  explicit TrainReporter(RunDirectory directory) : directory_(std::move(directory)) {}

  // Makes this the root's reporter: progress, metrics, and what a stop signal says.
  void speak(const ProgressOptions& options, std::int64_t log_every_supersteps,
             const std::string& resume_command);

  // Both throw DataError (exit code 6) when a loss is no number: on every rank at the same
  // superstep.
  void on_step(const worker::StepReport& report) override;
  void on_skipped(const worker::StepReport& report, const std::string& why) override;
  void on_straggler(std::int64_t superstep, const worker::Straggler& straggler,
                    const std::string& host) override;
  void on_epoch(const worker::EpochReport& report) override;
  void on_checkpoint(const std::filesystem::path& directory, std::int64_t superstep,
                     double seconds) override;
  void say(const std::string& line);
  // As on_epoch, of the evaluations that a training ends with.
  void require_finite_outcome(const worker::TrainResult& result) const;

  const RankTotals& totals() const { return totals_; }
  double checkpoint_seconds() const { return checkpoint_seconds_; }
  std::int64_t checkpoints_written() const { return checkpoints_written_; }

 private:
  void require_finite(double loss, const std::string& what_and_when) const;
  void require_finite(const std::optional<worker::Evaluation>& validation,
                      const std::optional<worker::Evaluation>& test, std::int64_t epoch) const;

  RunDirectory directory_;
  RankTotals totals_;
  double checkpoint_seconds_ = 0.0;
  std::int64_t checkpoints_written_ = 0;
  std::string resume_command_;
  std::unique_ptr<Progress> progress_;   // root only
  std::unique_ptr<MetricsLog> metrics_;  // root only
};

}  // namespace superstep::cluster
