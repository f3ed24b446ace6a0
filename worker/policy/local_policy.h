// Local SGD: when models are averaged, and what the workers' steps between cost.
//
// Averages come after `local_steps` steps and at the end of every epoch, so that evaluations see
// all of it; the first `local_after` supersteps are averages each (post-local SGD, Lin et al.
// 2020). Nobody waits between two averages.
#pragma once

#include <vector>

#include "worker/policy/sync_policy.h"

namespace superstep::worker {

class LocalPolicy : public SyncPolicy {
 public:
  LocalPolicy(const PolicyOptions& options, BatchPlan batches, WorkerDelays delays);

  StepPlan next() override;

 private:
  bool averages_now() const;

  BatchPlan batches_;
  WorkerDelays delays_;
  std::int64_t local_steps_;
  std::int64_t local_after_;
  std::int64_t superstep_ = 0;
  std::int64_t since_average_ = 0;
  std::vector<VirtualTime> clocks_;  // by worker
};

}  // namespace superstep::worker
