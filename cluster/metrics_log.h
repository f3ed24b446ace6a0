// metrics.jsonl: what happened, one JSON object a line, written as it happens.
//
//   {"type":"superstep","superstep":12,"epoch":0,"step_in_epoch":11,"loss":0.71,...}
//   {"type":"skipped","superstep":13,"epoch":0,"step_in_epoch":12,"why":"..."}
//   {"type":"straggler","superstep":18,"rank":3,"host":"b","slowdown":2.1}
//   {"type":"epoch","epoch":1,"superstep":469,"train_loss":0.55,"test_accuracy":0.85,...}
//   {"type":"checkpoint","superstep":469,"path":"checkpoints/step-00000469","seconds":0.01}
//
// Every line is flushed, so a killed run leaves whole lines and at most one torn one. Numbers that
// are not finite are null. The fields are documented in docs/summary.md.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "worker/federated/federated_trainer.h"
#include "worker/trainer.h"

namespace superstep::cluster {

class MetricsLog {
 public:
  // Appends to the file. Throws DataError when that is impossible.
  MetricsLog(const std::filesystem::path& file, std::int64_t every_supersteps);

  void on_step(const worker::StepReport& report);
  void on_skipped(const worker::StepReport& report, const std::string& why);
  void on_straggler(std::int64_t superstep, const worker::Straggler& straggler,
                    const std::string& host);
  // The ledger of a private run: one line per round. For a MetricsLog of its own file. The initial
  // model is "random", or "warm_start", whose training no ledger covers.
  void on_privacy(std::int64_t round, const worker::PrivacyRound& privacy,
                  std::string_view initial_model);
  // What left the ranks of an audited run, one line per rank, type and way. For a MetricsLog of its
  // own file.
  void on_audit(std::int64_t round, const worker::AuditEntry& entry);
  void on_round(const worker::RoundReport& report);
  void on_epoch(const worker::EpochReport& report);
  void on_checkpoint(const std::filesystem::path& directory, std::int64_t superstep,
                     double seconds);

 private:
  void write(std::string_view line);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::string path_;
  std::int64_t every_;
};

// Whether a line of the file is whole and belongs to the first `superstep` supersteps.
bool is_metrics_line_of(std::string_view line, std::int64_t superstep);

// Lines of the file that are whole; 0 when there is none.
std::int64_t count_lines(const std::filesystem::path& file);

// How the ledger and the summary name where noise comes from.
std::string_view noise_label(worker::NoiseSource source);

// Removes everything after `superstep`, and torn lines: a resumed run will write those again. A
// missing file is fine.
void truncate_metrics(const std::filesystem::path& file, std::int64_t superstep);

}  // namespace superstep::cluster
