// The recorded steps of a model: forward and backward of one slot, and the forward pass of
// evaluation.
//
//   StepPrograms programs(model, server.pull().buffer(), {.seed = seed});
//   SlotSummary summary = programs.train(batch, epoch, gradient);   // writes sums over the samples
//
//   if (programs.can_train_together(batches)) programs.train_together(batches, epoch, sum, all);
//
// A program is recorded once per number of samples (and of slots) and replayed. Gradients are sums
// over the samples of the slot; statistics of batch normalisation are weighted by the number of
// samples. An empty slot contributes zeros. One thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/precision.h"
#include "kernels/program.h"
#include "paramserver/server.h"
#include "worker/data/batches.h"
#include "worker/model.h"

namespace superstep::worker {

struct StepOptions {
  std::uint64_t seed = 0;                                       // of dropout
  kernels::Precision precision = kernels::Precision::kFloat32;  // of training and evaluation
};

class StepPrograms {
 public:
  // `parameters` has the model's layout and must remain valid while this object lives.
  StepPrograms(const Model& model, std::span<const float> parameters, const StepOptions& options);

  // gradient has layout().size() elements; every entry's elements are overwritten, padding is left
  // alone.
  paramserver::SlotSummary train(const SlotBatch& batch, std::int64_t epoch,
                                 std::span<float> gradient);
  // All slots in one pass, with the bits of train() for each and a sum of the gradients along the
  // tree over them (bsp/slot_tree.h). Not where slots differ in size or are empty, or one of them
  // begins inside a cache line: then use train().
  bool can_train_together(std::span<const SlotBatch> batches);
  // Whether that is worth it: most parameters are matrices, whose gradients are then written once.
  // Images gain nothing, and the activations of all slots live at once.
  bool gains_together() const;
  void train_together(std::span<const SlotBatch> batches, std::int64_t epoch,
                      std::span<float> gradient_sum, std::span<paramserver::SlotSummary> summaries);
  paramserver::SlotSummary evaluate(const SlotBatch& batch);

  std::int64_t arena_bytes() const;  // of all programs recorded so far
  double training_flops(std::int64_t num_samples);
  // Of the training program for this batch, op by op.
  std::vector<kernels::OpTiming> time_ops(const SlotBatch& batch, std::int64_t epoch,
                                          std::span<float> gradient, int repetitions);

 private:
  struct Recorded {
    kernels::Program program;
    std::vector<kernels::Tensor> inputs;
    kernels::Tensor losses;                                  // (N)
    kernels::Tensor logits;                                  // (N, classes)
    std::vector<int> entries;                                // layout entry of outputs 2, 3, ...
    std::map<float*, std::vector<kernels::Tensor>> outputs;  // by gradient memory
  };

  // Slots in one pass, and where they are put together.
  struct Joined {
    std::optional<Recorded> recorded;
    kernels::Tensor images;
    kernels::Tensor labels;
    kernels::Tensor sample_ids;
    kernels::Tensor slot_losses;  // of one slot, to sum up
    kernels::Tensor slot_logits;
  };

  std::vector<kernels::Tensor> training_step(std::span<const kernels::Tensor> inputs,
                                             std::int64_t num_samples,
                                             std::vector<int>& entries) const;
  Joined* joined(std::int64_t num_samples, int num_slots);  // null: not possible
  Recorded& training(std::int64_t num_samples);
  Recorded& evaluation(std::int64_t num_samples);
  std::vector<kernels::TensorType> input_types(std::int64_t num_samples) const;
  Recorded finish(kernels::Program program, std::vector<int> entries);
  std::vector<kernels::Tensor>& bound_outputs(Recorded& recorded, std::span<float> gradient);
  void bind_batch(Recorded& recorded, const SlotBatch& batch, std::int64_t epoch);
  static paramserver::SlotSummary summarize(const kernels::Tensor& losses,
                                            const kernels::Tensor& logits, const SlotBatch& batch);

  const Model& model_;
  StepOptions options_;
  std::vector<kernels::Tensor> parameters_;  // borrowed, one per layout entry
  std::map<std::int64_t, Recorded> training_;
  std::map<std::int64_t, Recorded> evaluation_;
  std::map<std::pair<std::int64_t, int>, std::optional<Joined>> joined_;
};

}  // namespace superstep::worker
