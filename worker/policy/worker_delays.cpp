#include "worker/policy/worker_delays.h"

#include <algorithm>
#include <cmath>

#include "base/philox.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

constexpr auto kDelays = "DelayOptions";

}  // namespace

void validate(const DelayOptions& options) {
  require_field(kDelays, options.seconds_per_sample > 0.0, "seconds_per_sample",
                options.seconds_per_sample, "a number above 0");
  require_field(kDelays, options.speed_deviation >= 0.0, "speed_deviation", options.speed_deviation,
                "a number of at least 0");
  require_field(kDelays, options.jitter_deviation >= 0.0, "jitter_deviation",
                options.jitter_deviation, "a number of at least 0");
  require_field(kDelays, options.bytes_per_second >= 0.0, "bytes_per_second",
                options.bytes_per_second, "a number of at least 0");
}

WorkerDelays::WorkerDelays(const DelayOptions& options, std::int64_t model_bytes)
    : options_(options) {
  validate(options);
  if (options.bytes_per_second > 0.0) {
    transfer_ = virtual_duration(static_cast<double>(model_bytes) / options.bytes_per_second);
  }
}

VirtualTime WorkerDelays::compute(int worker, std::int64_t step, std::int64_t num_samples) const {
  PhiloxStream of_worker(options_.seed, stream_id("worker speed"), worker);
  PhiloxStream of_step(options_.seed, stream_id("worker jitter"), worker, step);
  const double slowdown = std::exp(options_.speed_deviation * of_worker.normal() +
                                   options_.jitter_deviation * of_step.normal());
  const double seconds = static_cast<double>(num_samples) * options_.seconds_per_sample * slowdown;
  return std::max(VirtualTime(1), virtual_duration(seconds));
}

VirtualTime WorkerDelays::round_trip(int worker, std::int64_t step,
                                     std::int64_t num_samples) const {
  return transfer_ + compute(worker, step, num_samples) + transfer_;
}

}  // namespace superstep::worker
