// Stale synchronous parallel (Ho et al. 2013), and bsp as its case of staleness 0.
//
// With C(c) the time at which all workers have finished clock c, and f(w, c) that at which worker w
// has: w begins clock c at max(f(w, c - 1), C(c - s - 1)), and reads the parameters of the clocks
// that are complete then, at least c - s of them.
#pragma once

#include <deque>
#include <vector>

#include "worker/policy/sync_policy.h"

namespace superstep::worker {

class SspPolicy : public SyncPolicy {
 public:
  SspPolicy(const PolicyOptions& options, BatchPlan batches, WorkerDelays delays);

  StepPlan next() override;
  std::vector<std::int64_t> versions_needed() const override;

 private:
  std::int64_t versions_at(VirtualTime time) const;

  BatchPlan batches_;
  WorkerDelays delays_;
  std::int64_t staleness_;
  std::int64_t clock_ = 0;
  std::vector<VirtualTime> finished_;  // by worker: its last clock
  std::deque<VirtualTime> complete_;   // C(clock_ - s - 1) ... C(clock_ - 1)
};

}  // namespace superstep::worker
