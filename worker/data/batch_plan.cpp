#include <algorithm>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/philox.h"
#include "bsp/slot_tree.h"
#include "worker/data/batches.h"

namespace superstep::worker {

namespace {

void require_at_least_one(std::int64_t value, const char* name) {
  if (value < 1) {
    throw InvalidArgument("BatchPlan", fmt::format("{}: got {}, expected at least 1", name, value));
  }
}

}  // namespace

BatchPlan::BatchPlan(std::int64_t num_samples, const BatchOptions& options)
    : num_samples_(num_samples), options_(options) {
  require_at_least_one(num_samples, "number of samples");
  require_at_least_one(options.global_batch, "global_batch");
  require_at_least_one(options.microbatches, "microbatches");
}

std::int64_t BatchPlan::steps_per_epoch() const {
  return num_samples_ / options_.global_batch + (num_samples_ % options_.global_batch == 0 ? 0 : 1);
}

void BatchPlan::check_step(std::int64_t step_in_epoch) const {
  if (step_in_epoch < 0 || step_in_epoch >= steps_per_epoch()) {
    throw InvalidArgument("BatchPlan", fmt::format("step of the epoch: got {}, expected 0 to {}",
                                                   step_in_epoch, steps_per_epoch() - 1));
  }
}

std::int64_t BatchPlan::samples_in_step(std::int64_t step_in_epoch) const {
  check_step(step_in_epoch);
  return std::min(options_.global_batch, num_samples_ - step_in_epoch * options_.global_batch);
}

std::int64_t BatchPlan::max_slot_samples() const {
  const std::int64_t batch = samples_in_step(0);
  const std::int64_t slots = options_.microbatches;
  return batch / slots + (batch % slots == 0 ? 0 : 1);
}

std::vector<std::int64_t> BatchPlan::order(std::int64_t epoch) const {
  if (epoch < 0) {
    throw InvalidArgument("BatchPlan::order",
                          fmt::format("epoch: got {}, expected at least 0", epoch));
  }
  if (options_.shuffled) {
    return permutation(num_samples_, options_.seed, static_cast<std::uint64_t>(epoch));
  }
  std::vector<std::int64_t> indices(static_cast<std::size_t>(num_samples_));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  return indices;
}

std::span<const std::int64_t> BatchPlan::slot_indices(std::span<const std::int64_t> order,
                                                      std::int64_t step_in_epoch, int slot) const {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(order.size()) == num_samples_, "order of an epoch",
                  order.size(), num_samples_);
  const bsp::SampleRange range =
      bsp::samples_of_slot(slot, options_.microbatches, samples_in_step(step_in_epoch));
  return order.subspan(
      static_cast<std::size_t>(step_in_epoch * options_.global_batch + range.begin),
      static_cast<std::size_t>(range.end - range.begin));
}

BatchPosition BatchPlan::next(BatchPosition position) const {
  check_step(position.step_in_epoch);
  if (position.step_in_epoch + 1 < steps_per_epoch()) {
    return {.epoch = position.epoch, .step_in_epoch = position.step_in_epoch + 1};
  }
  return {.epoch = position.epoch + 1, .step_in_epoch = 0};
}

BatchPosition BatchPlan::position_after(std::int64_t steps) const {
  if (steps < 0) {
    throw InvalidArgument("BatchPlan::position_after",
                          fmt::format("steps: got {}, expected at least 0", steps));
  }
  return {.epoch = steps / steps_per_epoch(), .step_in_epoch = steps % steps_per_epoch()};
}

std::int64_t BatchPlan::steps_before(BatchPosition position) const {
  check_step(position.step_in_epoch);
  if (position.epoch < 0 ||
      position.epoch >= std::numeric_limits<std::int64_t>::max() / num_samples_) {
    throw InvalidArgument("BatchPlan::steps_before",
                          fmt::format("epoch out of range: got {}", position.epoch));
  }
  return position.epoch * steps_per_epoch() + position.step_in_epoch;
}

std::int64_t BatchPlan::samples_before(BatchPosition position) const {
  steps_before(position);  // checks the range
  return position.epoch * num_samples_ + position.step_in_epoch * options_.global_batch;
}

}  // namespace superstep::worker
