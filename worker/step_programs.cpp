#include "worker/step_programs.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "bsp/slot_tree.h"
#include "kernels/ops.h"
#include "kernels/tape.h"
#include "worker/metrics.h"

namespace superstep::worker {

namespace {

using kernels::DType;
using kernels::Shape;
using kernels::Tensor;
using kernels::TensorType;

// Borrowed memory is only read by programs, which never write their inputs.
Tensor borrow_constant(const Shape& shape, std::span<const float> values) {
  return Tensor::borrow(shape, DType::kFloat32,
                        reinterpret_cast<std::byte*>(const_cast<float*>(values.data())));
}

Shape with_batch(std::int64_t num_samples, const Shape& sample_shape) {
  std::vector<std::int64_t> sizes{num_samples};
  sizes.insert(sizes.end(), sample_shape.sizes().begin(), sample_shape.sizes().end());
  return Shape(std::move(sizes));
}

// Rows of one slot, from or to the rows of all.
void put_rows(const Tensor& rows, std::size_t slot, Tensor& all) {
  const auto bytes = static_cast<std::size_t>(rows.num_bytes());
  std::memcpy(all.mutable_bytes() + slot * bytes, rows.bytes(), bytes);
}
void take_rows(const Tensor& all, std::size_t slot, Tensor& rows) {
  const auto bytes = static_cast<std::size_t>(rows.num_bytes());
  std::memcpy(rows.mutable_bytes(), all.bytes() + slot * bytes, bytes);
}

}  // namespace

StepPrograms::StepPrograms(const Model& model, std::span<const float> parameters,
                           const StepOptions& options)
    : model_(model), options_(options) {
  for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
    const auto offset = static_cast<std::size_t>(entry.offset);
    parameters_.push_back(borrow_constant(
        entry.shape, parameters.subspan(offset, static_cast<std::size_t>(entry.num_elements()))));
  }
}

// Parameters, then images, labels, sample ids, random key.
std::vector<TensorType> StepPrograms::input_types(std::int64_t num_samples) const {
  std::vector<TensorType> types;
  for (const Tensor& parameter : parameters_) {
    types.push_back({parameter.dtype(), parameter.shape()});
  }
  types.push_back({DType::kFloat32, with_batch(num_samples, model_.sample_shape())});
  types.push_back({DType::kInt64, Shape{num_samples}});
  types.push_back({DType::kInt64, Shape{num_samples}});
  types.push_back({DType::kInt64, Shape{2}});
  return types;
}

// Losses and logits, then the sums over the samples of every entry in `entries`.
std::vector<Tensor> StepPrograms::training_step(std::span<const Tensor> inputs,
                                                std::int64_t num_samples,
                                                std::vector<int>& entries) const {
  const std::size_t count = parameters_.size();
  kernels::Tape tape;
  std::vector<Tensor> watched(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(count));
  std::vector<Tensor> sources;
  entries.clear();
  for (std::size_t i = 0; i < count; ++i) {
    if (model_.layout().entries()[i].role == paramserver::EntryRole::kTrainable) {
      watched[i] = tape.watch(watched[i]);
      sources.push_back(watched[i]);
      entries.push_back(static_cast<int>(i));
    }
  }
  const ForwardOutputs forward = model_.forward({.parameters = watched,
                                                 .images = inputs[count],
                                                 .sample_ids = inputs[count + 2],
                                                 .random_key = inputs[count + 3],
                                                 .precision = options_.precision},
                                                Mode::kTraining);
  const Tensor losses = kernels::cross_entropy(forward.logits, inputs[count + 1]);
  std::vector<Tensor> outputs{losses, forward.logits};
  for (Tensor& gradient : tape.gradient(losses, sources, kernels::Unconnected::kZero)) {
    outputs.push_back(std::move(gradient));
  }
  for (const auto& [entry, statistic] : forward.statistics) {
    entries.push_back(entry);
    outputs.push_back(kernels::scale(statistic, static_cast<double>(num_samples)));
  }
  return outputs;
}

StepPrograms::Recorded& StepPrograms::training(std::int64_t num_samples) {
  if (const auto found = training_.find(num_samples); found != training_.end()) {
    return found->second;
  }
  std::vector<int> entries;
  kernels::Program program = kernels::Program::record(
      input_types(num_samples),
      [&](std::span<const Tensor> inputs) { return training_step(inputs, num_samples, entries); });
  return training_.emplace(num_samples, finish(std::move(program), std::move(entries)))
      .first->second;
}

StepPrograms::Joined* StepPrograms::joined(std::int64_t num_samples, int num_slots) {
  const auto key = std::make_pair(num_samples, num_slots);
  if (const auto found = joined_.find(key); found != joined_.end()) {
    return found->second.has_value() ? &*found->second : nullptr;
  }
  const std::vector<TensorType> types = input_types(num_samples);
  kernels::SlotPlan plan{.batched_inputs = std::vector<bool>(types.size(), false),
                         .num_row_outputs = 2,
                         .folds = bsp::tree_folds(num_slots)};
  std::fill_n(plan.batched_inputs.begin() + static_cast<std::ptrdiff_t>(parameters_.size()), 3,
              true);
  std::vector<int> entries;
  std::optional<kernels::Program> program = kernels::Program::record_slots(
      types,
      [&](std::span<const Tensor> inputs) { return training_step(inputs, num_samples, entries); },
      plan);
  std::optional<Joined>& made = joined_[key];
  if (program.has_value()) {
    const auto zeros = [](const TensorType& type) { return Tensor::zeros(type.shape, type.dtype); };
    const std::vector<TensorType> all(program->input_types().begin(), program->input_types().end());
    made.emplace();
    made->recorded = finish(*std::move(program), std::move(entries));
    const std::size_t count = parameters_.size();
    made->images = zeros(all[count]);
    made->labels = zeros(all[count + 1]);
    made->sample_ids = zeros(all[count + 2]);
    made->slot_losses = Tensor::zeros(Shape{num_samples}, DType::kFloat32);
    made->slot_logits =
        Tensor::zeros(Shape{num_samples, made->recorded->logits.shape()[1]}, DType::kFloat32);
  }
  return made.has_value() ? &*made : nullptr;
}

StepPrograms::Recorded& StepPrograms::evaluation(std::int64_t num_samples) {
  if (const auto found = evaluation_.find(num_samples); found != evaluation_.end()) {
    return found->second;
  }
  const auto step = [&](std::span<const Tensor> inputs) {
    const std::size_t count = parameters_.size();
    const ForwardOutputs forward = model_.forward({.parameters = inputs.first(count),
                                                   .images = inputs[count],
                                                   .sample_ids = inputs[count + 2],
                                                   .random_key = inputs[count + 3],
                                                   .precision = options_.precision},
                                                  Mode::kEvaluation);
    return std::vector<Tensor>{kernels::cross_entropy(forward.logits, inputs[count + 1]),
                               forward.logits};
  };
  kernels::Program program = kernels::Program::record(input_types(num_samples), step);
  return evaluation_.emplace(num_samples, finish(std::move(program), {})).first->second;
}

StepPrograms::Recorded StepPrograms::finish(kernels::Program program, std::vector<int> entries) {
  const TensorType losses = program.output_types()[0];
  const TensorType logits = program.output_types()[1];
  std::vector<Tensor> inputs = parameters_;
  inputs.resize(parameters_.size() + 3);
  inputs.push_back(Tensor::zeros(Shape{2}, DType::kInt64));
  return {.program = std::move(program),
          .inputs = std::move(inputs),
          .losses = Tensor::zeros(losses.shape, losses.dtype),
          .logits = Tensor::zeros(logits.shape, logits.dtype),
          .entries = std::move(entries),
          .outputs = {}};
}

std::vector<Tensor>& StepPrograms::bound_outputs(Recorded& recorded, std::span<float> gradient) {
  std::vector<Tensor>& outputs = recorded.outputs[gradient.data()];
  if (outputs.empty()) {
    outputs = {recorded.losses, recorded.logits};
    for (const int index : recorded.entries) {
      const paramserver::LayoutEntry& entry =
          model_.layout().entries()[static_cast<std::size_t>(index)];
      outputs.push_back(borrow_constant(
          entry.shape, gradient.subspan(static_cast<std::size_t>(entry.offset),
                                        static_cast<std::size_t>(entry.num_elements()))));
    }
  }
  return outputs;
}

void StepPrograms::bind_batch(Recorded& recorded, const SlotBatch& batch, std::int64_t epoch) {
  const std::size_t count = parameters_.size();
  recorded.inputs[count] = batch.images;
  recorded.inputs[count + 1] = batch.labels;
  recorded.inputs[count + 2] = batch.sample_ids;
  const std::span<std::int64_t> key = recorded.inputs[count + 3].mutable_data<std::int64_t>();
  key[0] = static_cast<std::int64_t>(options_.seed);
  key[1] = epoch;
}

// Losses are added in double, in the order of the samples.
paramserver::SlotSummary StepPrograms::summarize(const Tensor& losses, const Tensor& logits,
                                                 const SlotBatch& batch) {
  paramserver::SlotSummary summary{.num_samples = batch.num_samples()};
  for (const float loss : losses.data<float>()) {
    summary.loss_sum += static_cast<double>(loss);
  }
  summary.num_correct = count_correct(logits, batch.labels);
  return summary;
}

paramserver::SlotSummary StepPrograms::train(const SlotBatch& batch, std::int64_t epoch,
                                             std::span<float> gradient) {
  if (batch.num_samples() == 0) {
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    return {};
  }
  Recorded& recorded = training(batch.num_samples());
  bind_batch(recorded, batch, epoch);
  std::vector<Tensor>& outputs = bound_outputs(recorded, gradient);
  recorded.program.run(recorded.inputs, outputs);
  return summarize(recorded.losses, recorded.logits, batch);
}

bool StepPrograms::gains_together() const {
  std::int64_t in_matrices = 0;
  std::int64_t all = 0;
  for (const paramserver::LayoutEntry& entry : model_.layout().entries()) {
    all += entry.num_elements();
    in_matrices += entry.shape.rank() == 2 ? entry.num_elements() : 0;
  }
  return 2 * in_matrices >= all;
}

bool StepPrograms::can_train_together(std::span<const SlotBatch> batches) {
  const std::int64_t num_samples = batches.front().num_samples();
  for (const SlotBatch& batch : batches) {
    if (batch.num_samples() != num_samples || num_samples == 0) {
      return false;
    }
  }
  return joined(num_samples, static_cast<int>(batches.size())) != nullptr;
}

void StepPrograms::train_together(std::span<const SlotBatch> batches, std::int64_t epoch,
                                  std::span<float> gradient_sum,
                                  std::span<paramserver::SlotSummary> summaries) {
  Joined* const found = joined(batches.front().num_samples(), static_cast<int>(batches.size()));
  SUPERSTEP_CHECK(found != nullptr, "slots that cannot be trained together", batches.size());
  Joined& all = *found;
  Recorded& recorded = *all.recorded;
  for (std::size_t slot = 0; slot < batches.size(); ++slot) {
    put_rows(batches[slot].images, slot, all.images);
    put_rows(batches[slot].labels, slot, all.labels);
    put_rows(batches[slot].sample_ids, slot, all.sample_ids);
  }
  bind_batch(recorded, {.images = all.images, .labels = all.labels, .sample_ids = all.sample_ids},
             epoch);
  recorded.program.run(recorded.inputs, bound_outputs(recorded, gradient_sum));
  for (std::size_t slot = 0; slot < batches.size(); ++slot) {
    take_rows(recorded.losses, slot, all.slot_losses);
    take_rows(recorded.logits, slot, all.slot_logits);
    summaries[slot] = summarize(all.slot_losses, all.slot_logits, batches[slot]);
  }
}

paramserver::SlotSummary StepPrograms::evaluate(const SlotBatch& batch) {
  if (batch.num_samples() == 0) {
    return {};
  }
  Recorded& recorded = evaluation(batch.num_samples());
  bind_batch(recorded, batch, 0);
  std::array<Tensor, 2> outputs{recorded.losses, recorded.logits};
  recorded.program.run(recorded.inputs, outputs);
  return summarize(recorded.losses, recorded.logits, batch);
}

std::int64_t StepPrograms::arena_bytes() const {
  std::int64_t bytes = 0;
  for (const auto* programs : {&training_, &evaluation_}) {
    for (const auto& [num_samples, recorded] : *programs) {
      bytes += recorded.program.arena_bytes();
    }
  }
  for (const auto& [key, joined_slots] : joined_) {
    bytes += joined_slots.has_value() ? joined_slots->recorded->program.arena_bytes() : 0;
  }
  return bytes;
}

double StepPrograms::training_flops(std::int64_t num_samples) {
  return training(num_samples).program.flops();
}

std::vector<kernels::OpTiming> StepPrograms::time_ops(const SlotBatch& batch, std::int64_t epoch,
                                                      std::span<float> gradient, int repetitions) {
  Recorded& recorded = training(batch.num_samples());
  bind_batch(recorded, batch, epoch);
  return recorded.program.time_ops(recorded.inputs, bound_outputs(recorded, gradient), repetitions);
}

}  // namespace superstep::worker
