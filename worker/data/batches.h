// The order of samples and the slots of a step: the same for every number of ranks.
//
// Epoch e visits the samples in a permutation keyed by (seed, e). Step k of the epoch takes the next
// global_batch of them (the last step may have fewer); slot i of M holds samples [floor(iB/M), floor((i+1)B/M))
// of that batch. A rank reads only the samples of its own slots.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "worker/data/dataset.h"

namespace superstep::worker {

struct BatchOptions {
  std::int64_t global_batch = 128;
  int microbatches = 8;                     // slots M
  std::uint64_t seed = 1;
  bool shuffled = true;                     // evaluation: false
};

// One slot's samples, ready for a Program: images (n, sample_shape...), labels (n), sample ids (n).
struct SlotBatch {
  int slot = 0;
  kernels::Tensor images;       // float32
  kernels::Tensor labels;       // int64
  kernels::Tensor sample_ids;   // int64: index in the dataset
  std::int64_t num_samples() const { return labels.num_elements(); }
};

// One step's slots of one rank, in ascending slot order; empty slots are included with 0 samples.
struct StepBatch {
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;
  std::int64_t global_samples = 0;
  std::vector<SlotBatch> slots;
};

class BatchPlan {
 public:
  BatchPlan(std::int64_t num_samples, const BatchOptions& options);
  std::int64_t steps_per_epoch() const;
  std::int64_t samples_in_step(std::int64_t step_in_epoch) const;
  // Dataset indices of a slot, given the epoch's order.
  std::vector<std::int64_t> order(std::int64_t epoch) const;     // the permutation
  std::span<const std::int64_t> slot_indices(std::span<const std::int64_t> order, std::int64_t step_in_epoch, int slot) const;
  const BatchOptions& options() const { return options_; }

 private:
  std::int64_t num_samples_;
  BatchOptions options_;
};

// Assembles the batches of one rank in a background thread, `depth` steps ahead. The thread makes no
// collective calls. next() waits for the next step; input_wait() says how long it waited so far.
class Prefetcher {
 public:
  Prefetcher(std::shared_ptr<const Dataset> dataset, Normalization normalization, BatchPlan plan, std::vector<int> my_slots,
             std::int64_t first_epoch, std::int64_t first_step, int depth = 2);
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  ~Prefetcher();

  // The batch stays valid until the second next() after this one. Errors of the thread are rethrown here.
  const StepBatch& next();
  // From the step after the last one returned on, other slots are this rank's.
  void set_slots(std::vector<int> my_slots);
  double input_wait_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep::worker
