#include "cluster/bench_report.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/version.h"

namespace superstep::cluster {

namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiga = 1e9;
constexpr double kMilli = 1e-3;

// "AMD EPYC 7763 64-Core Processor"; empty where the system does not say.
std::string processor_name() {
  constexpr std::string_view kKey = "model name";
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.compare(0, kKey.size(), kKey) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return {};
}

std::string split_text(const StepSplit& split) {
  return fmt::format(
      "step {:.3f} ms: compute {:.3f}, input wait {:.3f}, exchange {:.3f}, update {:.3f}, sync "
      "{:.3f}, other {:.3f}\n",
      split.total / kMilli, split.compute / kMilli, split.input_wait / kMilli,
      split.exchange / kMilli, split.update / kMilli, split.sync / kMilli, split.other() / kMilli);
}

std::string profile_text(const std::vector<kernels::OpTiming>& ops) {
  double total = 0.0;
  for (const kernels::OpTiming& op : ops) {
    total += op.seconds;
  }
  std::string text = fmt::format("{} ops of one slot, {:.3f} ms\n{:>10} {:>6} {:>8} {:>8}  op\n",
                                 ops.size(), total / kMilli, "us", "%", "GF/s", "GB/s");
  for (const kernels::OpTiming& op : ops) {
    const double seconds = std::max(op.seconds, 1e-9);
    text += fmt::format("{:>10.1f} {:>6.2f} {:>8.1f} {:>8.1f}  {}\n", op.seconds * 1e6,
                        100.0 * op.seconds / total, op.flops / seconds / kGiga,
                        op.bytes / seconds / kGiga, op.call);
  }
  return text;
}

Json split_json(const StepSplit& split) {
  return {{"total", split.total},           {"compute", split.compute},
          {"input_wait", split.input_wait}, {"exchange", split.exchange},
          {"update", split.update},         {"sync", split.sync},
          {"other", split.other()}};
}

Json machine_json() {
  return {{"processor", processor_name()}, {"instruction_set", instruction_set()},
          {"compiler", kCompiler},         {"build_type", kBuildType},
          {"build_flags", kBuildFlags},    {"commit", git_id()}};
}

Json profile_json(const std::vector<kernels::OpTiming>& ops) {
  Json list = Json::array();
  for (const kernels::OpTiming& op : ops) {
    list.push_back(
        {{"op", op.call}, {"seconds", op.seconds}, {"flops", op.flops}, {"bytes", op.bytes}});
  }
  return list;
}

}  // namespace

double BenchReport::samples_per_second() const {
  return static_cast<double>(batch_per_rank * world.ranks * steps) / seconds;
}

double BenchReport::flops_per_second() const {
  return flops_per_step * static_cast<double>(steps) / seconds;
}

double BenchReport::share_of_peak() const {
  return flops_per_second() / (peak_flops_per_core * world.ranks);
}

std::string to_text(const BenchReport& report) {
  std::string text = fmt::format(
      "{}: {} parameters, {}, batch {} per rank, {} microbatches, {}, {} steps\n"
      "samples_per_second {:.1f}\n"
      "{:.1f} GF/s, {:.3f} of the multiply-add peak of {} (measured: {:.1f} GF/s a core)\n",
      report.model, report.num_parameters, report.precision, report.batch_per_rank,
      report.microbatches, to_text(report.world), report.steps, report.samples_per_second(),
      report.flops_per_second() / kGiga, report.share_of_peak(),
      report.world.ranks == 1 ? "one core" : fmt::format("{} cores", report.world.ranks),
      report.peak_flops_per_core / kGiga);
  text += split_text(report.split);
  if (!report.ops.empty()) {
    text += profile_text(report.ops);
  }
  return text;
}

std::string to_json(const BenchReport& report) {
  Json json = {{"model", report.model},
               {"num_parameters", report.num_parameters},
               {"precision", report.precision},
               {"batch_per_rank", report.batch_per_rank},
               {"microbatches", report.microbatches},
               {"steps", report.steps},
               {"ranks", report.world.ranks},
               {"processes", report.world.processes},
               {"lanes", report.world.lanes},
               {"samples_per_second", report.samples_per_second()},
               {"gflops_per_second", report.flops_per_second() / kGiga},
               {"peak_gflops_per_core", report.peak_flops_per_core / kGiga},
               {"share_of_peak", report.share_of_peak()},
               {"step_seconds", split_json(report.split)},
               {"machine", machine_json()}};
  if (!report.ops.empty()) {
    json["profile"] = profile_json(report.ops);
  }
  return json.dump(2) + "\n";
}

}  // namespace superstep::cluster
