#include "examples/bsp/example.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"
#include "bsp/environment.h"

namespace superstep::examples {

namespace {

// A number of at least `least`; nullopt for anything else.
std::optional<double> number(const char* text, double least) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  return end != text && *end == '\0' && value >= least ? std::optional(value) : std::nullopt;
}

std::optional<Options> parse(int argc, char** argv, std::int64_t default_elements) {
  Options options{.elements = default_elements};
  for (int i = 1; i < argc; i += 2) {
    const std::string_view key = argv[i];
    const auto value =
        i + 1 < argc ? number(argv[i + 1], key == "--within" ? 0.0 : 1.0) : std::optional<double>();
    if (value && key == "--lanes") {
      options.lanes = static_cast<int>(*value);
    } else if (value && key == "--elements") {
      options.elements = static_cast<std::int64_t>(*value);
    } else if (value && key == "--rounds") {
      options.rounds = static_cast<int>(*value);
    } else if (value && key == "--within") {
      options.within = *value;
    } else {
      return std::nullopt;
    }
  }
  return options;
}

}  // namespace

int run_example(int argc, char** argv, std::int64_t default_elements,
                const std::function<void(bsp::World&, const Options&)>& body) {
  const std::optional<Options> options = parse(argc, argv, default_elements);
  if (!options) {
    std::fprintf(stderr, "usage: %s [--lanes N] [--elements N] [--rounds N] [--within RATIO]\n",
                 argv[0]);
    return 2;
  }
  bsp::Environment environment;
  return environment.run({.lanes = options->lanes},
                         [&](bsp::World& world) { body(world, *options); });
}

double Prediction::work_seconds() const {
  double sum = 0.0;
  for (const SuperstepCost& superstep : supersteps_) {
    sum += superstep.work_seconds;
  }
  return sum;
}

double Prediction::communication_seconds(const bsp::MachineProfile& machine) const {
  double sum = 0.0;
  for (const SuperstepCost& superstep : supersteps_) {
    sum += machine.g * static_cast<double>(superstep.h_bytes);
  }
  return sum;
}

double Prediction::synchronisation_seconds(const bsp::MachineProfile& machine) const {
  double sum = 0.0;
  for (const SuperstepCost& superstep : supersteps_) {
    sum += superstep.h_bytes > 0 ? machine.l : machine.empty_sync_seconds;
  }
  return sum;
}

std::vector<std::int64_t> Prediction::h_bytes() const {
  std::vector<std::int64_t> h;
  for (const SuperstepCost& superstep : supersteps_) {
    h.push_back(superstep.h_bytes);
  }
  return h;
}

void HCounter::end_superstep() {
  const std::uint64_t sent = world_.traffic().bytes_sent;
  const std::uint64_t received = world_.traffic().bytes_received;
  h_bytes_.push_back(static_cast<std::int64_t>(std::max(sent - sent_, received - received_)));
  sent_ = sent;
  received_ = received;
}

Measurement measure(bsp::World& world, int rounds, const std::function<void(HCounter&)>& program) {
  std::vector<double> times;
  std::vector<std::int64_t> h;
  for (int round = 0; round <= rounds; ++round) {  // the first one warms up and counts
    world.sync();
    HCounter counter(world);
    const Stopwatch watch;
    program(counter);
    const double slowest = world.allreduce(watch.seconds(), bsp::ReduceOp::kMax);
    if (round == 0) {
      h = counter.h_bytes();
      world.allreduce(std::span<const std::int64_t>(h), std::span(h), bsp::ReduceOp::kMax);
    } else {
      times.push_back(slowest);
    }
  }
  std::sort(times.begin(), times.end());
  return {.seconds = times[times.size() / 2],
          .low = times.front(),
          .high = times.back(),
          .h_bytes = std::move(h)};
}

void report(bsp::World& world, const Options& options, const Report& report) {
  const bsp::MachineProfile& machine = report.machine;
  const double work = report.prediction.work_seconds();
  const double communication = report.prediction.communication_seconds(machine);
  const double synchronisation = report.prediction.synchronisation_seconds(machine);
  const double predicted = work + communication + synchronisation;
  const double ratio = report.measured.seconds / predicted;
  std::int64_t h = 0;
  for (const std::int64_t bytes : report.measured.h_bytes) {
    h += bytes;
  }
  if (world.rank() == 0) {
    fmt::print(
        "{}: n = {}, p = {} ({} processes), {} supersteps, h = {} bytes\n"
        "  predicted  w {:.3f} + g*h {:.3f} + l {:.3f} = {:.3f} ms\n"
        "  measured   {:.3f} ms ({:.3f} to {:.3f}), {:.3f} x predicted\n"
        "  machine    g = {:.3f} ns/byte, l = {:.2f} us, residuals {:.0f} %\n",
        report.name, report.elements, world.size(), world.num_processes(),
        report.measured.h_bytes.size(), h, work * 1e3, communication * 1e3, synchronisation * 1e3,
        predicted * 1e3, report.measured.seconds * 1e3, report.measured.low * 1e3,
        report.measured.high * 1e3, ratio, machine.g * 1e9, machine.l * 1e6,
        machine.residual_rms * 100.0);
    std::fflush(stdout);
  }
  const std::vector<std::int64_t> predicted_h = report.prediction.h_bytes();
  SUPERSTEP_CHECK(predicted_h == report.measured.h_bytes, "h in bytes, predicted and counted",
                  fmt::format("{}", fmt::join(predicted_h, " ")), "and",
                  fmt::format("{}", fmt::join(report.measured.h_bytes, " ")));
  SUPERSTEP_CHECK(
      options.within == 0.0 || (ratio >= 1.0 - options.within && ratio <= 1.0 + options.within),
      "measured / predicted", ratio);
}

}  // namespace superstep::examples
