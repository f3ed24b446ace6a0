#include "worker/policy/local_replicas.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"

namespace superstep::worker {

namespace {

std::string array_of_worker(int worker, std::string_view what) {
  return fmt::format("worker_{}_{}", worker, what);
}

std::vector<int> first_slots(int count) {
  std::vector<int> slots(as_size(count));
  std::iota(slots.begin(), slots.end(), 0);
  return slots;
}

void add_to_summary(paramserver::SlotSummary& sum, const paramserver::SlotSummary& part) {
  sum.num_samples += part.num_samples;
  sum.num_correct += part.num_correct;
  sum.loss_sum += part.loss_sum;
}

}  // namespace

LocalReplicas::LocalReplicas(const Model& model, InnerOptions options,
                             const StepOptions& step_options, int num_slots, int num_workers,
                             std::vector<int> hosted)
    : layout_(model.layout()),
      options_(std::move(options)),
      num_slots_(num_slots),
      num_workers_(num_workers),
      hosted_(std::move(hosted)),
      whole_{{0, layout_.size()}},
      programs_(model, step_options),
      mean_tile_(paramserver::kBlockElements) {
  validate(options_.optimizer);
  validate(options_.schedule);
  const int most_slots = (num_slots + num_workers - 1) / num_workers;
  const int buffers = paramserver::GradientStack::capacity(most_slots, first_slots(most_slots));
  gradients_ = AlignedBuffer<float>(buffers * layout_.size());
  for (const int worker : hosted_) {
    const int own = first_slot(worker + 1) - first_slot(worker);
    replicas_.push_back(std::make_unique<Replica>(
        Replica{.parameters = AlignedBuffer<float>(layout_.size()),
                .updater = paramserver::ShardUpdater(layout_, whole_.front(), options_.optimizer),
                .stack = paramserver::GradientStack(gradients_.span(), layout_.size(), whole_, own,
                                                    first_slots(own))}));
  }
}

int LocalReplicas::first_slot(int worker) const {
  return static_cast<int>(std::int64_t{worker} * num_slots_ / num_workers_);
}

std::vector<int> LocalReplicas::slots_of_hosted() const {
  std::vector<int> slots;
  for (const int worker : hosted_) {
    for (int slot = first_slot(worker); slot < first_slot(worker + 1); ++slot) {
      slots.push_back(slot);
    }
  }
  return slots;
}

const LocalReplicas::Replica* LocalReplicas::find(int worker) const {
  const auto found = std::find(hosted_.begin(), hosted_.end(), worker);
  return found == hosted_.end() ? nullptr : replicas_[as_size(found - hosted_.begin())].get();
}

LocalReplicas::Replica& LocalReplicas::replica_of(int worker) {
  const auto found = std::find(hosted_.begin(), hosted_.end(), worker);
  SUPERSTEP_CHECK(found != hosted_.end(), "a worker of another rank:", worker);
  return *replicas_[as_size(found - hosted_.begin())];
}

void LocalReplicas::begin_round(std::span<const float> parameters) {
  for (const std::unique_ptr<Replica>& replica : replicas_) {
    std::copy(parameters.begin(), parameters.end(), replica->parameters.span().begin());
  }
  in_round_ = true;
}

double LocalReplicas::learning_rate(std::int64_t superstep) const {
  return paramserver::learning_rate_at(options_.schedule, options_.optimizer.learning_rate,
                                       superstep);
}

paramserver::SlotSummary LocalReplicas::push_gradients(Replica& replica,
                                                       std::span<const SlotBatch> slots,
                                                       std::int64_t epoch, const Look& look) {
  StepPrograms& programs = programs_.load(replica.parameters.span());
  paramserver::SlotSummary total;
  int slot = 0;
  for (const SlotBatch& batch : slots) {
    const std::span<float> gradient = replica.stack.reserve(slot);
    const paramserver::SlotSummary summary = programs.train(batch, epoch, gradient);
    look(batch, summary, gradient);
    add_to_summary(total, summary);
    replica.stack.push(slot, 0, gradient);
    ++slot;
  }
  replica.stack.finish_step();
  return total;
}

void LocalReplicas::update(Replica& replica, std::int64_t num_samples, std::int64_t superstep) {
  const paramserver::ApplyOptions all_entries;
  const paramserver::ShardStep step{.step = superstep,
                                    .learning_rate = learning_rate(superstep),
                                    .num_samples = num_samples,
                                    .clip_value = options_.clip_value,
                                    .options = &all_entries};
  SUPERSTEP_CHECK(replica.stack.pieces().size() == 1, "sums of a worker's slots",
                  replica.stack.pieces().size());
  const std::int64_t base = replica.stack.pieces().front().buffer * layout_.size();
  for (std::int64_t begin = 0; begin < layout_.size(); begin += paramserver::kBlockElements) {
    const std::size_t count = as_size(paramserver::kBlockElements);
    replica.updater.mean_of_tile(
        step, begin, gradients_.span().subspan(as_size(base + begin), count), mean_tile_.span());
    replica.updater.update_tile(step, begin, mean_tile_.span(),
                                replica.parameters.span().subspan(as_size(begin), count));
  }
}

paramserver::SlotSummary LocalReplicas::step(int worker, std::span<const SlotBatch> slots,
                                             const LocalStep& where, const Look& look) {
  Replica& replica = replica_of(worker);
  const paramserver::SlotSummary summary = push_gradients(replica, slots, where.epoch, look);
  if (summary.num_samples > 0) {
    update(replica, summary.num_samples, where.superstep);
  }
  return summary;
}

void LocalReplicas::write_change(int worker, std::span<const float> parameters, float scale,
                                 std::span<float> out) const {
  const Replica* const replica = find(worker);
  SUPERSTEP_CHECK(replica != nullptr, "a worker of another rank:", worker);
  const std::span<const float> own = replica->parameters.span();
  for (const paramserver::LayoutEntry& entry : layout_.entries()) {
    const std::size_t begin = as_size(entry.offset);
    const std::size_t end = begin + as_size(entry.num_elements());
    const bool is_statistic = entry.role == paramserver::EntryRole::kStatistic;
    for (std::size_t i = begin; i < end; ++i) {
      out[i] = scale * (is_statistic ? own[i] : parameters[i] - own[i]);
    }
  }
}

std::vector<paramserver::ArrayPart> LocalReplicas::parts() {
  std::vector<paramserver::ArrayPart> parts;
  const auto add = [&](int worker, std::string_view what, std::span<const float> values) {
    parts.push_back({.name = array_of_worker(worker, what),
                     .num_elements = layout_.size(),
                     .range = {0, static_cast<std::int64_t>(values.size())},
                     .values = values});
  };
  const std::vector<paramserver::StateArray> states = state_arrays(options_.optimizer);
  for (int worker = 0; worker < num_workers_; ++worker) {
    const bool here = find(worker) != nullptr;
    if (in_round_) {
      add(worker, "parameters",
          here ? replica_of(worker).parameters.span() : std::span<const float>());
    }
    for (std::size_t i = 0; i < states.size(); ++i) {
      add(worker, states[i].name,
          here ? replica_of(worker).updater.state(i) : std::span<const float>());
    }
  }
  return parts;
}

void LocalReplicas::restore(const paramserver::CheckpointReader& reader) {
  const auto& arrays = reader.manifest().arrays;
  in_round_ = std::any_of(arrays.begin(), arrays.end(), [](const auto& array) {
    return array.name == array_of_worker(0, "parameters");
  });
  const std::vector<paramserver::StateArray> states = state_arrays(options_.optimizer);
  for (const int worker : hosted_) {
    Replica& replica = replica_of(worker);
    if (in_round_) {
      reader.read(array_of_worker(worker, "parameters"), whole_.front(), replica.parameters.span());
    }
    for (std::size_t i = 0; i < states.size(); ++i) {
      reader.read(array_of_worker(worker, states[i].name), whole_.front(),
                  replica.updater.state(i));
    }
  }
}

}  // namespace superstep::worker
