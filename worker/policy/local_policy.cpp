#include "worker/policy/local_policy.h"

#include <algorithm>

#include "base/as_size.h"

namespace superstep::worker {

LocalPolicy::LocalPolicy(const PolicyOptions& options, BatchPlan batches, WorkerDelays delays)
    : batches_(batches),
      delays_(delays),
      local_steps_(options.local_steps),
      local_after_(options.local_after),
      clocks_(as_size(options.workers)) {}

// After the step that is being planned.
bool LocalPolicy::averages_now() const {
  const std::int64_t step = batches_.position_after(superstep_).step_in_epoch;
  return superstep_ < local_after_ || since_average_ + 1 == local_steps_ ||
         step + 1 == batches_.steps_per_epoch();
}

StepPlan LocalPolicy::next() {
  StepPlan plan;
  plan.exchanges = averages_now();
  plan.begin = *std::min_element(clocks_.begin(), clocks_.end());
  const auto num_workers = static_cast<int>(clocks_.size());
  for (int worker = 0; worker < num_workers; ++worker) {
    VirtualTime& clock = clocks_[as_size(worker)];
    const std::int64_t samples = samples_of_share(batches_, superstep_, worker, num_workers);
    clock = after(clock, delays_.compute(worker, superstep_, samples));
    plan.shares.push_back({.worker = worker, .version = superstep_ - since_average_});
  }
  plan.end = *std::max_element(clocks_.begin(), clocks_.end());
  ++superstep_;
  ++since_average_;
  if (plan.exchanges) {
    plan.end = after(plan.end, delays_.transfer() + delays_.transfer());
    plan.pushes = num_workers;
    plan.fetches = num_workers;
    std::fill(clocks_.begin(), clocks_.end(), plan.end);
    since_average_ = 0;
  }
  return plan;
}

}  // namespace superstep::worker
