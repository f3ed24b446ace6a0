// The order of samples and the slots of a step: the same for every number of ranks.
//
// Epoch e visits the samples in a permutation keyed by (seed, e). Step k of the epoch takes the
// next global_batch of them (the last step may have fewer); slot i of M holds samples
// [floor(iB/M), floor((i+1)B/M)) of that batch. A rank reads only the samples of its own slots.
//
//   BatchPlan plan(dataset->size(), {.global_batch = 128, .microbatches = 8, .seed = 1});
//   Prefetcher prefetcher(dataset, normalization, plan, my_slots, position.epoch,
//   position.step_in_epoch); const StepBatch& batch = prefetcher.next(); position =
//   plan.next(batch.position());       // what a checkpoint keeps
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "worker/data/dataset.h"

namespace superstep::worker {

struct BatchOptions {
  std::int64_t global_batch = 128;
  int microbatches = 8;  // slots M
  std::uint64_t seed = 1;
  bool shuffled = true;  // evaluation: false
};

// A step in the stream of all epochs. A run resumed at a position sees exactly the batches that an
// uninterrupted run sees from there on.
struct BatchPosition {
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;
  // clang-tidy 14 takes the comparison with 0 in it for a null pointer.
  // NOLINTNEXTLINE(modernize-use-nullptr)
  friend auto operator<=>(const BatchPosition&, const BatchPosition&) = default;
};

// One slot's samples, ready for a Program: images (n, sample_shape...), labels (n), sample ids (n).
struct SlotBatch {
  int slot = 0;
  kernels::Tensor images;      // float32
  kernels::Tensor labels;      // int64
  kernels::Tensor sample_ids;  // int64: index in the dataset
  std::int64_t num_samples() const { return labels.num_elements(); }
};

// One step's slots of one rank, in ascending slot order; empty slots are included with 0 samples.
struct StepBatch {
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;
  std::int64_t global_samples = 0;  // of all slots of all ranks
  kernels::Tensor random_key;       // int64 (2): seed, epoch; with sample ids the key of dropout
  std::vector<SlotBatch> slots;

  BatchPosition position() const { return {.epoch = epoch, .step_in_epoch = step_in_epoch}; }
};

class BatchPlan {
 public:
  // Throws InvalidArgument unless num_samples, global_batch and microbatches are at least 1.
  BatchPlan(std::int64_t num_samples, const BatchOptions& options);

  std::int64_t num_samples() const { return num_samples_; }
  std::int64_t steps_per_epoch() const;
  std::int64_t samples_in_step(std::int64_t step_in_epoch) const;
  // The most samples a slot ever holds.
  std::int64_t max_slot_samples() const;

  // Dataset indices of a slot, given the epoch's order.
  std::vector<std::int64_t> order(std::int64_t epoch) const;  // the permutation
  std::span<const std::int64_t> slot_indices(std::span<const std::int64_t> order,
                                             std::int64_t step_in_epoch, int slot) const;

  // The step after this one; the position after `steps` steps from the start, and its inverse;
  // samples used before a position. Throw InvalidArgument for a position outside the plan.
  BatchPosition next(BatchPosition position) const;
  BatchPosition position_after(std::int64_t steps) const;
  std::int64_t steps_before(BatchPosition position) const;
  std::int64_t samples_before(BatchPosition position) const;

  const BatchOptions& options() const { return options_; }

 private:
  void check_step(std::int64_t step_in_epoch) const;

  std::int64_t num_samples_;
  BatchOptions options_;
};

// Assembles the batches of one rank in a background thread, `depth` steps ahead. The thread makes
// no collective calls. Buffers are reused: from the second epoch on, steps whose slots have the
// shapes of the steps before them allocate nothing. Memory: depth + 2 steps of this rank's slots.
//
// next(), set_slots() and the destructor belong to one thread.
class Prefetcher {
 public:
  // No end to the steps.
  static constexpr std::int64_t kEndless = -1;

  // my_slots: ascending, distinct, in [0, microbatches); may be empty. With num_steps the thread
  // stops after that many steps, and a further next() is an error: evaluation reads one epoch.
  // Throws InvalidArgument where an argument does not fit.
  Prefetcher(std::shared_ptr<const Dataset> dataset, Normalization normalization, BatchPlan plan,
             std::vector<int> my_slots, std::int64_t first_epoch, std::int64_t first_step,
             int depth = 2, std::int64_t num_steps = kEndless);
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  // Stops at once: at most one piece of 256 samples is finished.
  ~Prefetcher();

  // Waits for the next step. The batch stays valid until the second next() after this one (tensors
  // too: their memory is used again). Errors of the thread are rethrown here, after the steps
  // before them.
  const StepBatch& next();
  // From the step after the last one returned on, other slots are this rank's. Slots that are in
  // both sets and were assembled ahead are kept. Throws InvalidArgument like the constructor.
  void set_slots(std::vector<int> my_slots);
  // Time spent waiting in next() so far.
  double input_wait_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep::worker
