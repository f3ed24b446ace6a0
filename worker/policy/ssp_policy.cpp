#include "worker/policy/ssp_policy.h"

#include <algorithm>
#include <set>

#include "base/as_size.h"

namespace superstep::worker {

SspPolicy::SspPolicy(const PolicyOptions& options, BatchPlan batches, WorkerDelays delays)
    : batches_(batches),
      delays_(delays),
      staleness_(options.kind == PolicyKind::kSsp ? options.staleness : 0),
      finished_(as_size(options.workers)),
      complete_(as_size(staleness_) + 1) {}

// Clocks that are complete at `time`; those before complete_ are.
std::int64_t SspPolicy::versions_at(VirtualTime time) const {
  const auto later = std::upper_bound(complete_.begin(), complete_.end(), time);
  const auto known = static_cast<std::int64_t>(later - complete_.begin());
  return clock_ - staleness_ - 1 + known;
}

StepPlan SspPolicy::next() {
  StepPlan plan;
  plan.begin = kNever;
  const auto num_workers = static_cast<int>(finished_.size());
  for (int worker = 0; worker < num_workers; ++worker) {
    VirtualTime& finished = finished_[as_size(worker)];
    const VirtualTime begin = std::max(finished, complete_.front());
    const std::int64_t samples = samples_of_share(batches_, clock_, worker, num_workers);
    plan.shares.push_back({.worker = worker, .version = versions_at(begin)});
    finished = after(begin, delays_.round_trip(worker, clock_, samples));
    plan.begin = std::min(plan.begin, begin);
    plan.end = std::max(plan.end, finished);
  }
  plan.pushes = num_workers;
  plan.fetches = num_workers;
  complete_.pop_front();
  complete_.push_back(plan.end);
  ++clock_;
  return plan;
}

// Read off the clock as it will go on.
std::vector<std::int64_t> SspPolicy::versions_needed() const {
  std::set<std::int64_t> needed;
  SspPolicy ahead(*this);
  for (std::int64_t i = 0; i < staleness_; ++i) {
    for (const Share& share : ahead.next().shares) {
      if (share.version < clock_) {
        needed.insert(share.version);
      }
    }
  }
  return {needed.begin(), needed.end()};
}

}  // namespace superstep::worker
