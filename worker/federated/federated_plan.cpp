// The plan of a round: who is used, from which model, with what weight, on which rank.
#include <utility>

#include "worker/federated/federated_state.h"

namespace superstep::worker {

// Without a clock the cohort alone.
TimedWork FederatedTrainer::State::next_work() {
  if (clock) {
    return clock->next(rounds_done);
  }
  return {.clients = select_cohort(sampling, *clients, rounds_done), .flights = {}, .timing = {}};
}

// What the client at place `i` of the plan starts from.
ClientStart FederatedTrainer::State::start_of(const RoundPlan& plan, std::size_t i) const {
  const std::span<const float> published = server.pull().buffer();
  if (plan.flights.empty()) {
    return {.model = published, .reference = published, .round = rounds_done};
  }
  const Flight& flight = plan.flights[i];
  const std::span<const float> from =
      flight.version == rounds_done ? published : versions->at(flight.version);
  const bool mixes = options.asynchrony.kind == Asynchrony::kFedAsync;
  const double weight = staleness_weight(options.asynchrony, rounds_done - flight.version);
  return {.model = from,
          .reference = mixes ? published : from,
          .round = flight.version,
          .repetition = flight.repetition,
          .weight = mixes ? options.asynchrony.mixing * weight : weight};
}

PhiloxStream FederatedTrainer::State::client_stream(std::string_view purpose,
                                                    std::int64_t client) const {
  const std::uint64_t seed = options.cohort.seed;
  return origin.repetition == 0
             ? PhiloxStream(seed, stream_id(purpose), client, origin.round)
             : PhiloxStream(seed, stream_id(purpose), client, origin.round, origin.repetition);
}

void FederatedTrainer::State::place(RoundPlan& plan) const {
  if (options.data_mode == DataMode::kStrict) {
    plan.placement = place_by_owner(plan.cohort, *clients, world.size());
    return;
  }
  std::vector<double> costs;
  costs.reserve(plan.cohort.size());
  for (const std::int64_t client : plan.cohort) {
    costs.push_back(cost.predict(static_cast<double>(clients->num_samples(client))));
  }
  plan.placement = place_by_cost(costs, world.size());
}

RoundPlan FederatedTrainer::State::plan_round() {
  TimedWork work = next_work();
  RoundPlan plan;
  plan.cohort = std::move(work.clients);
  plan.flights = std::move(work.flights);
  plan.timing = work.timing;
  if (options.asynchrony.kind == Asynchrony::kFedAsync) {
    train_ahead(plan);
  } else {
    place(plan);
  }
  double weights = 0.0;
  double weighted_steps = 0.0;
  for (const std::int64_t client : plan.cohort) {
    const std::int64_t samples = clients->num_samples(client);
    const double weight = base_weight(client);
    weights += weight;
    weighted_steps += weight * static_cast<double>(LocalTrainer::num_steps(options.local, samples));
  }
  plan.mean_steps = weights > 0.0 ? weighted_steps / weights : 0.0;
  return plan;
}

}  // namespace superstep::worker
