// How long the logical workers of a simulated cluster take. Nothing is measured: every duration is
// a pure function of (options, worker, number of its step), known before anything is trained and
// the same on every rank.
//
//   a step      samples * seconds_per_sample * e^(speed_deviation * N(worker))
//                                            * e^(jitter_deviation * N(worker, step))
//   a transfer  bytes of the model / bytes_per_second, once to fetch and once to push
//
// N are standard normal numbers: some workers are slower than others, and every step of each may
// be. The link of a worker is its own; servers are never busy.
#pragma once

#include <cstdint>

#include "worker/federated/virtual_time.h"

namespace superstep::worker {

struct DelayOptions {
  double seconds_per_sample = 0.001;
  double speed_deviation = 0.0;   // between workers
  double jitter_deviation = 0.0;  // between the steps of a worker
  double bytes_per_second = 0.0;  // 0: transfers take no time
  std::uint64_t seed = 1;
};

// Throws InvalidArgument that names the field.
void validate(const DelayOptions& options);

class WorkerDelays {
 public:
  WorkerDelays(const DelayOptions& options, std::int64_t model_bytes);

  // At least 1 ns.
  VirtualTime compute(int worker, std::int64_t step, std::int64_t num_samples) const;
  VirtualTime transfer() const { return transfer_; }  // of the model, one way
  // Fetch, compute and push.
  VirtualTime round_trip(int worker, std::int64_t step, std::int64_t num_samples) const;

 private:
  DelayOptions options_;
  VirtualTime transfer_{};
};

}  // namespace superstep::worker
