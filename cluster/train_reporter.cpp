#include "cluster/train_reporter.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "cluster/stop_signals.h"

namespace superstep::cluster {

void TrainReporter::speak(const ProgressOptions& options, std::int64_t log_every_supersteps,
                          const std::string& resume_command) {
  progress_ = std::make_unique<Progress>(options, stdout, stderr);
  metrics_ = std::make_unique<MetricsLog>(directory_.metrics(), log_every_supersteps);
  resume_command_ = resume_command;
}

void TrainReporter::require_finite(double loss, const std::string& what_and_when) const {
  if (!std::isfinite(loss)) {
    throw DataError(
        "train", directory_.root().string(), -1,
        fmt::format("the {}: got {}. The training diverged; checkpoints of earlier "
                    "supersteps are untouched. A lower learning rate, warm-up or clipping "
                    "may help",
                    what_and_when, loss),
        ExitCode::kNumbers);
  }
}

void TrainReporter::require_finite(const std::optional<worker::Evaluation>& validation,
                                   const std::optional<worker::Evaluation>& test,
                                   std::int64_t epoch) const {
  for (const auto& [part, evaluation] :
       {std::pair("validation", validation), std::pair("test", test)}) {
    if (evaluation) {
      require_finite(evaluation->loss,
                     fmt::format("{} loss is no number after epoch {}", part, epoch));
    }
  }
}

void TrainReporter::require_finite_outcome(const worker::TrainResult& result) const {
  require_finite(result.validation, result.test, result.epochs);
}

void TrainReporter::on_step(const worker::StepReport& report) {
  totals_.add(report.record);
  if (metrics_ != nullptr) {
    metrics_->on_step(report);
  }
  require_finite(report.result.total.loss_sum,
                 fmt::format("loss is no number at superstep {} (epoch {}, learning rate {})",
                             report.superstep, report.epoch + 1, report.result.learning_rate));
  if (progress_ != nullptr) {
    progress_->on_step(report);
  }
}

void TrainReporter::on_epoch(const worker::EpochReport& report) {
  if (progress_ != nullptr) {
    metrics_->on_epoch(report);
    progress_->on_epoch(report);
  }
  require_finite(report.validation, report.test, report.epoch);
}

void TrainReporter::on_skipped(const worker::StepReport& report, const std::string& why) {
  totals_.add(report.record);
  say(fmt::format("left out: {}", why));
  if (metrics_ != nullptr) {
    metrics_->on_skipped(report, why);
  }
}

void TrainReporter::on_straggler(std::int64_t superstep, const worker::Straggler& straggler,
                                 const std::string& host) {
  say(fmt::format("superstep {}: {} (on {})", superstep, straggler.to_text(), host));
  if (metrics_ != nullptr) {
    metrics_->on_straggler(superstep, straggler, host);
  }
}

void TrainReporter::on_checkpoint(const std::filesystem::path& directory, std::int64_t superstep,
                                  double seconds) {
  checkpoint_seconds_ += seconds;
  ++checkpoints_written_;
  if (metrics_ != nullptr) {
    metrics_->on_checkpoint(directory, superstep, seconds);
    set_stop_notice(
        fmt::format("superstep: stopping after this superstep with a checkpoint; the newest "
                    "one on disk is {}\nto continue:\n  {}",
                    directory.string(), resume_command_));
  }
}

void TrainReporter::say(const std::string& line) {
  if (progress_ != nullptr) {
    progress_->say(line);
  }
}

}  // namespace superstep::cluster
