#include "cluster/federated_reporter.h"

#include <chrono>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

#include "base/error.h"
#include "cluster/stop_signals.h"

namespace superstep::cluster {

namespace {

constexpr std::chrono::milliseconds kLineInterval{1000};

}  // namespace

std::string round_line(const worker::RoundReport& report, std::int64_t rounds) {
  std::string text =
      fmt::format("round {}/{}  loss {:.4f}", report.round, rounds, report.train_loss);
  if (report.test) {
    text += fmt::format("  test accuracy {:.4f}", report.test->accuracy);
  }
  if (report.seconds > 0.0) {
    text += fmt::format("  {:.0f} clients/s", static_cast<double>(report.cohort) / report.seconds);
  }
  if (report.timing) {
    text += fmt::format("  virtual {:.6g} s", worker::virtual_seconds(report.timing->end));
  }
  if (report.privacy) {
    const bool is_test = report.privacy->noise_source == worker::NoiseSource::kTest;
    text += fmt::format("  epsilon {:.3f} (RDP, delta {}){}", report.privacy->rdp.epsilon,
                        report.privacy->delta, is_test ? ", test noise: NOT private" : "");
  }
  if (!report.rejected.empty()) {
    text += fmt::format("  {} rejected (client {}: {})", report.rejected.size(),
                        report.rejected.front().client,
                        worker::name_of(report.rejected.front().reason));
  }
  if (!report.has_effect) {
    text += "  too few updates: the model stays as it was";
  }
  return text;
}

void FederatedReporter::speak(const ProgressOptions& options, std::int64_t rounds,
                              std::int64_t log_every_rounds, std::string resume_command) {
  progress_ = std::make_unique<Progress>(options, stdout, stderr);
  metrics_ = std::make_unique<MetricsLog>(directory_.metrics(), log_every_rounds);
  rounds_ = rounds;
  resume_command_ = std::move(resume_command);
}

void FederatedReporter::on_round(const worker::RoundReport& report) {
  totals_.add(report.record);
  if (metrics_ != nullptr) {
    metrics_->on_round(report);
    const Clock::time_point now = Clock::now();
    const bool news = report.test.has_value() || !report.rejected.empty();
    if (report.round == rounds_ || (news && now - last_line_ >= kLineInterval)) {
      last_line_ = now;
      progress_->say(round_line(report, rounds_));
    }
  }
  if (report.test && !std::isfinite(report.test->loss)) {
    throw DataError("federated", directory_.root().string(), -1,
                    fmt::format("the test loss is no number after round {}: got {}. The model "
                                "diverged; checkpoints of earlier rounds are untouched. A lower "
                                "client or server learning rate may help",
                                report.round, report.test->loss),
                    ExitCode::kNumbers);
  }
}

void FederatedReporter::on_private_round(std::int64_t round, const worker::PrivacyRound& privacy) {
  if (metrics_ == nullptr) {
    return;
  }
  if (ledger_ == nullptr) {
    ledger_ = std::make_unique<MetricsLog>(directory_.privacy(), 1);
  }
  ledger_->on_privacy(round, privacy, initial_model_);
}

void FederatedReporter::on_audit(std::int64_t round, std::span<const worker::AuditEntry> entries) {
  if (metrics_ == nullptr) {
    return;
  }
  if (audit_ == nullptr) {
    audit_ = std::make_unique<MetricsLog>(directory_.audit(), 1);
  }
  for (const worker::AuditEntry& entry : entries) {
    audit_->on_audit(round, entry);
  }
}

void FederatedReporter::on_checkpoint(const std::filesystem::path& directory, std::int64_t round,
                                      double seconds) {
  checkpoint_seconds_ += seconds;
  ++checkpoints_written_;
  if (metrics_ != nullptr) {
    metrics_->on_checkpoint(directory, round, seconds);
    set_stop_notice(
        fmt::format("superstep: stopping after this round with a checkpoint; the "
                    "newest one on disk is {}\nto continue:\n  {}",
                    directory.string(), resume_command_));
  }
}

void FederatedReporter::say(const std::string& line) {
  if (progress_ != nullptr) {
    progress_->say(line);
  }
}

}  // namespace superstep::cluster
