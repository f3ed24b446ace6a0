// Downpour SGD (Dean et al. 2012): workers fetch, compute and push without waiting for each other.
//
// A superstep is a step of one worker. At one instant pushes are applied in the order of workers,
// then their workers fetch. Every worker's batch takes the time of a whole global batch; which
// batch it is is settled by the order in which steps end, so that every sample is used once per
// epoch.
#pragma once

#include <set>
#include <vector>

#include "worker/policy/sync_policy.h"

namespace superstep::worker {

class DownpourPolicy : public SyncPolicy {
 public:
  DownpourPolicy(const PolicyOptions& options, const BatchPlan& batches, WorkerDelays delays);

  StepPlan next() override;
  std::vector<std::int64_t> versions_needed() const override;

 private:
  struct Worker {
    std::int64_t steps = 0;    // begun
    std::int64_t version = 0;  // fetched last
  };
  // A step under way.
  struct Flight {
    VirtualTime at{};  // of its end
    int worker = 0;
    std::int64_t step = 0;  // of the worker, from 0
    std::int64_t version = 0;
    VirtualTime begin{};

    friend bool operator<(const Flight& a, const Flight& b) {
      return a.at != b.at ? a.at < b.at : a.worker < b.worker;
    }
  };
  void start_landed();
  bool fetches_before(std::int64_t step) const { return step % n_fetch_ == 0; }
  bool pushes_after(std::int64_t step) const { return (step + 1) % n_push_ == 0; }

  WorkerDelays delays_;
  std::int64_t batch_samples_;
  std::int64_t warm_start_;
  std::int64_t n_push_;
  std::int64_t n_fetch_;
  std::int64_t supersteps_ = 0;
  VirtualTime now_{};
  std::vector<Worker> workers_;
  std::set<Flight> flights_;
  std::vector<int> landed_;  // workers that have yet to begin their next step
};

}  // namespace superstep::worker
