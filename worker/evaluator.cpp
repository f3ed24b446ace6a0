#include "worker/evaluator.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "bsp/slot_tree.h"
#include "worker/data/batches.h"

namespace superstep::worker {

namespace {

constexpr std::size_t kFields = 3;  // samples, correct, loss

// Slots of `rank` when `num_slots` slots are dealt to `num_ranks` ranks; ranks may get none.
std::vector<int> evaluation_slots(int num_slots, int num_ranks, int rank) {
  std::vector<int> slots;
  const std::vector<int> placement = bsp::contiguous_placement(num_slots, num_ranks);
  for (int slot = 0; slot < num_slots; ++slot) {
    if (placement[static_cast<std::size_t>(slot)] == rank) {
      slots.push_back(slot);
    }
  }
  return slots;
}

SlotBatch read_slot(const Dataset& dataset, const Normalization& normalization,
                    std::span<const std::int64_t> indices) {
  const auto count = static_cast<std::int64_t>(indices.size());
  std::vector<std::int64_t> sizes{count};
  const kernels::Shape sample = dataset.sample_shape();
  sizes.insert(sizes.end(), sample.sizes().begin(), sample.sizes().end());
  SlotBatch batch;
  batch.images =
      kernels::Tensor::uninitialized(kernels::Shape(std::move(sizes)), kernels::DType::kFloat32);
  batch.labels = kernels::Tensor::uninitialized(kernels::Shape{count}, kernels::DType::kInt64);
  batch.sample_ids = kernels::Tensor::from<std::int64_t>(kernels::Shape{count}, indices);
  dataset.read(indices, normalization, batch.images.mutable_data<float>(),
               batch.labels.mutable_data<std::int64_t>());
  return batch;
}

// Sum of one field over the slots of a batch, along the fixed tree.
double tree_sum_of(std::span<const double> batch, bsp::SlotRange range, std::size_t field) {
  if (range.length() == 1) {
    return batch[static_cast<std::size_t>(range.begin) * kFields + field];
  }
  const int middle = bsp::split_point(range);
  return tree_sum_of(batch, {range.begin, middle}, field) +
         tree_sum_of(batch, {middle, range.end}, field);
}

}  // namespace

Evaluation evaluate(bsp::World& world, StepPrograms& programs, const Dataset& dataset,
                    const EvaluationOptions& options) {
  const int slots = static_cast<int>(std::min<std::int64_t>(options.slots, options.batch));
  const std::int64_t steps = (dataset.size() + options.batch - 1) / options.batch;
  const std::size_t row = static_cast<std::size_t>(slots) * kFields;
  std::vector<double> table(static_cast<std::size_t>(steps) * row, 0.0);
  const std::vector<int> mine = evaluation_slots(slots, world.size(), world.rank());
  std::vector<std::int64_t> indices;
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::int64_t first = step * options.batch;
    const std::int64_t count = std::min(options.batch, dataset.size() - first);
    for (const int slot : mine) {
      const bsp::SampleRange range = bsp::samples_of_slot(slot, slots, count);
      indices.resize(static_cast<std::size_t>(range.end - range.begin));
      std::iota(indices.begin(), indices.end(), first + range.begin);
      const paramserver::SlotSummary summary =
          programs.evaluate(read_slot(dataset, options.normalization, indices));
      double* fields = table.data() + static_cast<std::size_t>(step) * row +
                       static_cast<std::size_t>(slot) * kFields;
      fields[0] = static_cast<double>(summary.num_samples);
      fields[1] = static_cast<double>(summary.num_correct);
      fields[2] = summary.loss_sum;
    }
  }
  // Every field is given by one rank and zero elsewhere, so this sum is exact.
  world.allreduce(std::span<const double>(table), std::span<double>(table), bsp::ReduceOp::kSum);
  double samples = 0.0;
  double correct = 0.0;
  double loss = 0.0;
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::span<const double> batch =
        std::span<const double>(table).subspan(static_cast<std::size_t>(step) * row, row);
    samples += tree_sum_of(batch, {0, slots}, 0);
    correct += tree_sum_of(batch, {0, slots}, 1);
    loss += tree_sum_of(batch, {0, slots}, 2);
  }
  return {.loss = loss / samples,
          .accuracy = correct / samples,
          .num_samples = static_cast<std::int64_t>(samples)};
}

}  // namespace superstep::worker
