// Synchronous updates with backup workers (Chen et al. 2016): of n workers that share a batch the
// first n - b count.
//
// A worker that comes too late has computed for nothing: it fetches the newest parameters and
// begins its share of the batch that is under way. A worker whose share is empty has nothing to do
// and is neither counted nor waited for.
#pragma once

#include <vector>

#include "worker/policy/sync_policy.h"

namespace superstep::worker {

class BackupPolicy : public SyncPolicy {
 public:
  BackupPolicy(const PolicyOptions& options, BatchPlan batches, WorkerDelays delays);

  StepPlan next() override;

 private:
  // When a worker would push its share of the superstep.
  struct Arrival {
    VirtualTime at{};
    int worker = 0;
    VirtualTime begin{};
    friend bool operator<(const Arrival& a, const Arrival& b) {
      return a.at != b.at ? a.at < b.at : a.worker < b.worker;
    }
  };
  std::vector<Arrival> arrivals() const;

  BatchPlan batches_;
  WorkerDelays delays_;
  int backup_;
  std::int64_t superstep_ = 0;
  VirtualTime now_{};              // the parameters that are newest exist since then
  std::vector<VirtualTime> free_;  // by worker: since when, or from when on
};

}  // namespace superstep::worker
