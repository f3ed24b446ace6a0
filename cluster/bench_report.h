// What a measurement of training steps found, and how it is told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/world_shape.h"
#include "kernels/program.h"

namespace superstep::cluster {

// Seconds of one superstep, means over the measured steps and over the ranks. The exchange reduces,
// averages, updates and publishes in one pass over the gradients; `update` is what the optimizer's
// rule takes on a shard when it is run alone, `exchange` the rest of the pass.
struct StepSplit {
  double total = 0.0;
  double compute = 0.0;
  double input_wait = 0.0;
  double exchange = 0.0;
  double update = 0.0;
  double sync = 0.0;
  double other() const { return total - compute - input_wait - exchange - update - sync; }
};

struct BenchReport {
  std::string model;
  std::string precision = "float32";  // of products and convolutions; the peak is float32's
  std::int64_t num_parameters = 0;
  std::int64_t batch_per_rank = 0;
  std::int64_t microbatches = 0;
  std::int64_t steps = 0;
  WorldShape world;
  double seconds = 0.0;              // of all measured steps, on the slowest rank
  double flops_per_step = 0.0;       // of all ranks
  double peak_flops_per_core = 0.0;  // mean over the ranks, which measured it side by side
  StepSplit split;
  std::vector<kernels::OpTiming> ops;  // --profile: one slot on the root rank

  double samples_per_second() const;
  double flops_per_second() const;
  double share_of_peak() const;  // of as many cores as there are ranks
};

std::string to_text(const BenchReport& report);
std::string to_json(const BenchReport& report);

}  // namespace superstep::cluster
