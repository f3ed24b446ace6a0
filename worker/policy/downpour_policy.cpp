#include "worker/policy/downpour_policy.h"

#include <numeric>

#include "base/as_size.h"

namespace superstep::worker {

DownpourPolicy::DownpourPolicy(const PolicyOptions& options, const BatchPlan& batches,
                               WorkerDelays delays)
    : delays_(delays),
      batch_samples_(batches.samples_in_step(0)),
      warm_start_(options.warm_start),
      n_push_(options.n_push),
      n_fetch_(options.n_fetch),
      workers_(as_size(options.workers)),
      landed_(warm_start_ > 0 ? 1 : as_size(options.workers)) {
  std::iota(landed_.begin(), landed_.end(), 0);
}

void DownpourPolicy::start_landed() {
  for (const int index : landed_) {
    Worker& worker = workers_[as_size(index)];
    const std::int64_t step = worker.steps++;
    VirtualTime end = after(now_, delays_.compute(index, step, batch_samples_));
    if (fetches_before(step)) {
      worker.version = supersteps_;
      end = after(end, delays_.transfer());
    }
    if (pushes_after(step)) {
      end = after(end, delays_.transfer());
    }
    flights_.insert(
        {.at = end, .worker = index, .step = step, .version = worker.version, .begin = now_});
  }
  landed_.clear();
}

StepPlan DownpourPolicy::next() {
  if (flights_.empty() || flights_.begin()->at > now_) {
    start_landed();
  }
  const Flight flight = *flights_.begin();
  flights_.erase(flights_.begin());
  now_ = flight.at;
  landed_.push_back(flight.worker);
  ++supersteps_;
  if (supersteps_ == warm_start_) {
    for (int worker = 1; worker < static_cast<int>(workers_.size()); ++worker) {
      landed_.push_back(worker);
    }
  }
  return {.shares = {{.worker = flight.worker,
                      .version = flight.version,
                      .own_steps = flight.step % n_fetch_}},
          .exchanges = pushes_after(flight.step),
          .goes_on = !fetches_before(flight.step + 1),
          .begin = flight.begin,
          .end = now_,
          .pushes = pushes_after(flight.step) ? 1 : 0,
          .fetches = fetches_before(flight.step) ? 1 : 0};
}

// A worker that has its own model does not read the parameters it fetched.
std::vector<std::int64_t> DownpourPolicy::versions_needed() const {
  std::set<std::int64_t> needed;
  for (const Flight& flight : flights_) {
    if (flight.version < supersteps_ && fetches_before(flight.step)) {
      needed.insert(flight.version);
    }
  }
  return {needed.begin(), needed.end()};
}

}  // namespace superstep::worker
