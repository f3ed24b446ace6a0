#include "cluster/metrics_log.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json_integer.h"
#include "cluster/client_reports.h"
#include "cluster/policy_report.h"

namespace superstep::cluster {

namespace {

// JSON has no NaN and no infinity.
std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : std::string("null");
}

std::string evaluation_fields(std::string_view part,
                              const std::optional<worker::Evaluation>& result) {
  if (!result) {
    return {};
  }
  return fmt::format(R"(,"{0}_loss":{1},"{0}_accuracy":{2})", part, number(result->loss),
                     number(result->accuracy));
}

// `,"client_accuracy":{...},...` where clients were judged.
std::string client_fields(const worker::RoundReport& report) {
  if (!report.clients) {
    return {};
  }
  const std::string object = client_metrics_json(report.clients).dump();
  return "," + object.substr(1, object.size() - 2);
}

std::string timing_fields(const std::optional<worker::RoundTiming>& timing) {
  if (!timing) {
    return {};
  }
  return fmt::format(
      R"(,"virtual_seconds":{},"round_virtual_seconds":{},"selected":{},"late":{},"dropped":{},)"
      R"("gone":{},"stale":{},"staleness_mean":{},"staleness_max":{},"versions":{})",
      number(worker::virtual_seconds(timing->end)),
      number(worker::virtual_seconds(timing->end - timing->begin)), timing->selected, timing->late,
      timing->dropped, timing->gone, timing->stale, number(timing->staleness_mean),
      timing->staleness_max, timing->versions);
}

std::string norm_fields(const std::optional<worker::NormRound>& norms) {
  if (!norms) {
    return {};
  }
  const auto bound = [](const std::optional<double>& norm) {
    return norm ? number(*norm) : std::string("null");
  };
  return fmt::format(R"(,"norms":{{"zeroing":{},"clipping":{},"zeroed":{},"clipped":{}}})",
                     bound(norms->zeroing), bound(norms->clipping), norms->zeroed, norms->clipped);
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& file, std::int64_t every_supersteps)
    : file_(std::fopen(file.c_str(), "ae")), path_(file.string()), every_(every_supersteps) {
  if (file_ == nullptr) {
    throw DataError("MetricsLog", path_, -1,
                    fmt::format("cannot be written: {}", std::generic_category().message(errno)),
                    ExitCode::kFailure);
  }
}

void MetricsLog::write(std::string_view line) {
  const bool written = std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size();
  if (!written || std::fflush(file_.get()) != 0) {
    throw DataError("MetricsLog", path_, -1,
                    fmt::format("cannot be written: {}", std::generic_category().message(errno)),
                    ExitCode::kFailure);
  }
}

void MetricsLog::on_step(const worker::StepReport& report) {
  if (report.superstep % every_ != 0) {
    return;
  }
  const paramserver::SlotSummary& total = report.result.total;
  const auto samples = static_cast<double>(total.num_samples);
  const bsp::SuperstepRecord& record = report.record;
  write(fmt::format(
      R"({{"type":"superstep","superstep":{},"epoch":{},"step_in_epoch":{},"samples":{},"loss":{},)"
      R"("accuracy":{},"learning_rate":{},"gradient_norm":{},"seconds":{{"total":{},"compute":{},)"
      R"("input_wait":{},"exchange":{},"sync_wait":{},"check":{},"checkpoint":{}}},"bytes_sent":{},)"
      R"("bytes_received":{}{}}})"
      "\n",
      report.superstep, report.epoch, report.step_in_epoch, total.num_samples,
      number(total.loss_sum / samples), number(static_cast<double>(total.num_correct) / samples),
      number(report.result.learning_rate), number(report.result.gradient_norm),
      number(record.total_seconds), number(record.compute_seconds),
      number(record.input_wait_seconds), number(record.exchange_seconds),
      number(record.sync_wait_seconds), number(record.check_seconds),
      number(record.checkpoint_seconds), record.bytes_sent, record.bytes_received,
      plan_fields(report)));
}

void MetricsLog::on_skipped(const worker::StepReport& report, const std::string& why) {
  using Json = nlohmann::json;
  write(fmt::format(R"({{"type":"skipped","superstep":{},"epoch":{},"step_in_epoch":{},"why":{}}})"
                    "\n",
                    report.superstep, report.epoch, report.step_in_epoch,
                    Json(why).dump(-1, ' ', false, Json::error_handler_t::replace)));
}

void MetricsLog::on_straggler(std::int64_t superstep, const worker::Straggler& straggler,
                              const std::string& host) {
  using Json = nlohmann::json;
  write(fmt::format(R"({{"type":"straggler","superstep":{},"rank":{},"host":{},"slowdown":{}}})"
                    "\n",
                    superstep, straggler.rank,
                    Json(host).dump(-1, ' ', false, Json::error_handler_t::replace),
                    number(straggler.slowdown)));
}

void MetricsLog::on_privacy(std::int64_t round, const worker::PrivacyRound& privacy,
                            std::string_view initial_model) {
  write(fmt::format(
      R"({{"superstep":{},"round":{},"executed_rounds":{},"noise_source":"{}","initial_model":"{}",)"
      R"("clip":{},"noise_multiplier":{},"update_noise_multiplier":{},"ring_deviation":{},)"
      R"("count_deviation":{},"sampling":"poisson","cohort":{},"noise_cohort":{},)"
      R"("sampling_probability":{},"adjacency":"add_or_remove_one_client","delta":{},)"
      R"("epsilon_rdp":{},"order":{},"epsilon_rdp_classic":{},"epsilon_pld":{}}})"
      "\n",
      round, round, privacy.executed_rounds, noise_label(privacy.noise_source), initial_model,
      number(privacy.clip), number(privacy.noise_multiplier),
      number(privacy.update_noise_multiplier), number(privacy.ring_deviation),
      number(privacy.count_deviation), privacy.cohort, privacy.noise_cohort,
      number(privacy.sampling), number(privacy.delta), number(privacy.rdp.epsilon),
      number(privacy.rdp.order), number(privacy.rdp_classic),
      privacy.pld ? number(*privacy.pld) : "null"));
}

void MetricsLog::on_audit(std::int64_t round, const worker::AuditEntry& entry) {
  write(fmt::format(
      R"({{"superstep":{},"round":{},"rank":{},"type":"{}","way":"{}","count":{},"bytes":{}}})"
      "\n",
      round, round, entry.rank, entry.type, worker::name_of(entry.way), entry.count, entry.bytes));
}

void MetricsLog::on_round(const worker::RoundReport& report) {
  const bool news = report.test || report.clients || !report.rejected.empty() ||
                    !report.diverged.empty() || !report.has_effect;
  if (report.round % every_ != 0 && !news) {
    return;
  }
  std::string rejected;
  for (const worker::RejectedClient& client : report.rejected) {
    rejected += fmt::format(R"({}{{"client":{},"reason":"{}"}})", rejected.empty() ? "" : ",",
                            client.client, worker::name_of(client.reason));
  }
  write(fmt::format(
      R"({{"type":"round","superstep":{},"round":{},"cohort":{},"rejected":[{}],"effect":{},)"
      R"("diverged_personal_models":[{}],"samples":{},)"
      R"("steps":{},"upload_bytes":{},"download_bytes":{},"train_loss":{},"train_accuracy":{},)"
      R"("client_learning_rate":{},)"
      R"("client_seconds":{},"seconds":{{"total":{},"compute":{},"exchange":{},"sync_wait":{},)"
      R"("checkpoint":{}}},)"
      R"("bytes_sent":{},"bytes_received":{}{}{}{}{}}})"
      "\n",
      report.round, report.round, report.cohort, rejected, report.has_effect,
      fmt::join(report.diverged, ","), report.samples, report.steps, report.upload_bytes,
      report.download_bytes, number(report.train_loss), number(report.train_accuracy),
      number(report.client_learning_rate), number(report.client_seconds), number(report.seconds),
      number(report.record.compute_seconds), number(report.record.exchange_seconds),
      number(report.record.sync_wait_seconds), number(report.record.checkpoint_seconds),
      report.record.bytes_sent, report.record.bytes_received, norm_fields(report.norms),
      timing_fields(report.timing), evaluation_fields("test", report.test), client_fields(report)));
}

void MetricsLog::on_epoch(const worker::EpochReport& report) {
  write(fmt::format(
      R"({{"type":"epoch","epoch":{},"superstep":{},"train_loss":{},"train_accuracy":{},)"
      R"("seconds":{},"samples_per_second":{}{}{}{}}})"
      "\n",
      report.epoch, report.superstep, number(report.train_loss), number(report.train_accuracy),
      number(report.seconds), number(report.samples_per_second),
      report.virtual_end
          ? fmt::format(R"(,"virtual_seconds":{})", worker::virtual_seconds(*report.virtual_end))
          : std::string(),
      evaluation_fields("validation", report.validation), evaluation_fields("test", report.test)));
}

void MetricsLog::on_checkpoint(const std::filesystem::path& directory, std::int64_t superstep,
                               double seconds) {
  const nlohmann::json path = "checkpoints/" + directory.filename().string();
  write(fmt::format(R"({{"type":"checkpoint","superstep":{},"path":{},"seconds":{}}})"
                    "\n",
                    superstep, path.dump(), number(seconds)));
}

bool is_metrics_line_of(std::string_view line, std::int64_t superstep) {
  const nlohmann::json entry = nlohmann::json::parse(line, nullptr, false);
  if (!entry.is_object()) {
    return false;
  }
  const auto at = entry.find("superstep");
  return at != entry.end() && json_integer(*at, 0, superstep).has_value();
}

std::int64_t count_lines(const std::filesystem::path& file) {
  std::ifstream input(file);
  return std::count(std::istreambuf_iterator<char>(input), std::istreambuf_iterator<char>(), '\n');
}

std::string_view noise_label(worker::NoiseSource source) {
  return source == worker::NoiseSource::kTest ? "test: NOT private" : worker::name_of(source);
}

void truncate_metrics(const std::filesystem::path& file, std::int64_t superstep) {
  std::ifstream input(file);
  if (!input) {
    return;
  }
  AtomicFile output(file);
  std::string line;
  while (std::getline(input, line)) {
    const bool torn = input.eof();  // a line without its end
    if (!torn && is_metrics_line_of(line, superstep)) {
      output.write(line + "\n");
    }
  }
  output.commit();
}

}  // namespace superstep::cluster
