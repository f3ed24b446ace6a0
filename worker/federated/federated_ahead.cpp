// FedAsync in parallel. An update is made of one report, so ranks would wait for one another; but
// which reports come next, and from which models, is known. Those whose model exists already are
// trained at once, a few per rank, and mixed in one after the other when their turn comes. A client
// is a pure function of its start, so this never changes results.
#include <algorithm>

#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

// So many models are kept per rank at most: enough to even out clients of different sizes.
constexpr std::int64_t kModelsAhead = 4;

using Clock = std::chrono::steady_clock;

}  // namespace

const TrainedClient* FederatedTrainer::State::find_ahead(const Flight& flight) const {
  const auto found = std::find_if(ahead.begin(), ahead.end(), [&](const TrainedClient& client) {
    return client.flight == flight;
  });
  return found == ahead.end() ? nullptr : &*found;
}

// The reports to come whose model exists already, beginning with those of the plan.
std::vector<Flight> FederatedTrainer::State::known_flights(const RoundPlan& plan) const {
  const std::int64_t more = std::min(kModelsAhead * world.size() - 1,
                                     std::max<std::int64_t>(0, options.rounds - rounds_done - 1));
  std::vector<Flight> flights = plan.flights;
  for (const Flight& flight : clock->peek(more)) {
    if (flight.version <= rounds_done) {
      flights.push_back(flight);
    }
  }
  return flights;
}

// Places the clients of the plan on the ranks that trained them ahead; trains more when they are
// not among these.
void FederatedTrainer::State::train_ahead(RoundPlan& plan) {
  if (find_ahead(plan.flights.front()) == nullptr) {
    RoundPlan next;
    next.flights = known_flights(plan);
    for (const Flight& flight : next.flights) {
      next.cohort.push_back(flight.client);
    }
    place(next);
    ahead.clear();
    for (std::size_t i = 0; i < next.cohort.size(); ++i) {
      ahead.push_back(
          {.flight = next.flights[i], .rank = next.placement[i], .model = {}, .training = {}});
      if (next.placement[i] == world.rank()) {
        const Clock::time_point began = Clock::now();
        TrainedClient& trained = ahead.back();
        origin = start_of(next, i);
        trained.training = train_alone(next.cohort[i]);
        trained.model.assign(local.parameters().begin(), local.parameters().end());
        trained.seconds = std::chrono::duration<double>(Clock::now() - began).count();
      }
    }
  }
  plan.placement = {find_ahead(plan.flights.front())->rank};
}

}  // namespace superstep::worker
