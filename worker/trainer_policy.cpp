// What a superstep is under the policy of a simulated cluster: which parameters a slot reads,
// whether it counts, and what workers with models of their own exchange.

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "worker/trainer_state.h"

namespace superstep::worker {

// Before a checkpoint is read and before the data are known.
void Trainer::State::make_policy_memory() {
  const PolicyOptions& which = options.policy;
  const StepOptions step{.seed = options.batch.seed, .precision = options.precision};
  validate(which, options.batch.microbatches);
  if (which.kind != PolicyKind::kBsp && options.recompute_gradients > 0.0) {
    throw InvalidArgument(
        "Trainer", fmt::format("gradients are computed again from the newest parameters: got "
                               "recompute_gradients = {} with policy \"{}\", expected 0",
                               options.recompute_gradients, name_of(which.kind)));
  }
  if (which.kind == PolicyKind::kSsp || which.kind == PolicyKind::kAsync) {
    versions.emplace(world, model.layout());
    older = std::make_unique<LoadedPrograms>(model, step);
  }
  if (which.kind == PolicyKind::kAsync && (which.n_push > 1 || which.n_fetch > 1)) {
    own_models = std::make_unique<DownpourReplicas>(world, model.layout(), server.shard(), which);
  }
  if (which.kind == PolicyKind::kLocal) {
    const auto num_slots = static_cast<int>(server.placement().size());
    if (num_slots != which.workers || options.placement != SlotPlacement::kContiguous) {
      throw InvalidArgument(
          "Trainer", fmt::format("local policy: got a server of {} slots for {} workers, expected "
                                 "a slot per worker, placed contiguously",
                                 num_slots, which.workers));
    }
    std::vector<int> hosted = slots_of_this_rank();
    replicas = std::make_unique<LocalReplicas>(
        model, options.inner, step, options.batch.microbatches, which.workers, std::move(hosted));
  }
}

// A clock is a pure function of how far it went: up to where the training is, it is replayed.
void Trainer::State::start_policy(const BatchPlan& batches) {
  if (!is_simulated(options.policy)) {
    return;
  }
  policy = make_policy(options.policy, batches,
                       model.layout().num_parameters() * std::int64_t{sizeof(float)});
  policy_totals = {};
  for (std::int64_t superstep = 0; superstep < position.superstep; ++superstep) {
    policy_totals.add(policy->next(), superstep);
  }
  const int num_shares = options.policy.kind == PolicyKind::kAsync ? 1 : options.policy.workers;
  share_of_slot = shares_of_slots(options.batch.microbatches, num_shares);
}

// Nobody reads an older version between two supersteps, so what is not needed any more can give its
// memory to what will be.
void Trainer::State::plan_superstep() {
  if (policy == nullptr) {
    return;
  }
  plan = policy->next();
  policy_totals.add(plan, position.superstep);
  if (versions.has_value()) {
    std::vector<std::int64_t> needed = policy->versions_needed();
    for (const Share& share : plan.shares) {
      if (share.version < position.superstep && share.own_steps == 0) {
        needed.push_back(share.version);
      }
    }
    versions->keep(needed, position.superstep, server.pull().buffer());
  }
  if (replicas != nullptr && !replicas->is_in_round()) {
    replicas->begin_round(server.pull().buffer());
  }
}

// Null: there is no policy.
const Share* Trainer::State::share_of(int slot) const {
  return policy == nullptr ? nullptr : &plan.shares[as_size(share_of_slot[as_size(slot)])];
}

bool Trainer::State::counts(int slot) const {
  const Share* const share = share_of(slot);
  return share == nullptr || share->counts;
}

bool Trainer::State::have_one_share(std::span<const SlotBatch> batches) const {
  const Share* const first = share_of(batches.front().slot);
  return first == nullptr || (first == share_of(batches.back().slot) && first->counts);
}

// What a worker reads.
std::span<const float> Trainer::State::parameters_of(const Share& share) {
  if (share.own_steps > 0) {
    return own_models->model(share.worker);
  }
  return share.version == position.superstep ? server.pull().buffer() : versions->at(share.version);
}

// Reading the parameters that the slot's worker reads.
StepPrograms& Trainer::State::programs_for(int slot) {
  const Share* const share = share_of(slot);
  if (share == nullptr || (share->version == position.superstep && share->own_steps == 0)) {
    return programs;
  }
  const bool is_own = share->own_steps > 0;
  const bool is_loaded = loaded.version == share->version && loaded.own_steps == share->own_steps &&
                         (!is_own || loaded.worker == share->worker);
  if (!is_loaded) {
    older->load(parameters_of(*share));
    loaded = *share;
  }
  return older->programs();
}

// A step of every worker of this rank; returns the samples.
std::int64_t Trainer::State::compute_local(const StepBatch& batch) {
  const LocalStep where{.epoch = batch.epoch, .superstep = position.superstep + 1};
  std::int64_t num_samples = 0;
  std::span<const SlotBatch> rest = batch.slots;
  for (const int worker : replicas->hosted()) {
    const int count = replicas->first_slot(worker + 1) - replicas->first_slot(worker);
    const paramserver::SlotSummary summary =
        replicas->step(worker, rest.first(as_size(count)), where,
                       [this](const SlotBatch& slot, const paramserver::SlotSummary& of_slot,
                              std::span<const float> gradient) {
                         note_finding(numbers.look(slot, of_slot, gradient));
                       });
    rest = rest.subspan(as_size(count));
    num_samples += summary.num_samples;
    if (plan.exchanges) {
      push_local(worker, batch.global_samples);
    }
    server.push_summary(worker, summary);
  }
  return num_samples;
}

// The server divides by the samples of the step: scaled by them the mean is that over workers.
void Trainer::State::push_local(int worker, std::int64_t global_samples) {
  const float scale =
      static_cast<float>(global_samples) / static_cast<float>(options.policy.workers);
  const std::span<float> change = server.reserve(worker);
  replicas->write_change(worker, server.pull().buffer(), scale, change);
  push_buckets(worker, change);
}

paramserver::StepResult Trainer::State::exchange(const paramserver::ApplyOptions& apply) {
  if (own_models != nullptr) {
    paramserver::ApplyOptions gated = apply;
    gated.gate = own_models.get();
    own_models->begin(plan, parameters_of(plan.shares.front()));
    const paramserver::StepResult result = server.apply_gradients(gated);
    if (result.skipped) {
      own_models->leave_out();
    }
    return result;
  }
  if (replicas == nullptr) {
    return server.apply_gradients(apply);
  }
  paramserver::StepResult result;
  if (plan.exchanges) {
    paramserver::ApplyOptions average = apply;
    average.statistics = paramserver::StatisticRule::kReplace;
    result = server.apply_gradients(average);
    replicas->end_round();
  } else {
    result = server.share_summaries(apply.skip_on);
  }
  result.learning_rate = replicas->learning_rate(position.superstep + 1);
  return result;
}

void Trainer::State::restore_policy(const paramserver::CheckpointReader& from) {
  if (versions.has_value()) {
    versions->restore(from, ModelVersions::versions_in(from.manifest()));
  }
  if (own_models != nullptr) {
    own_models->restore(from);
  }
  if (replicas != nullptr) {
    replicas->restore(from);
  }
}

}  // namespace superstep::worker
