#include "worker/policy/backup_policy.h"

#include <algorithm>

#include "base/as_size.h"

namespace superstep::worker {

BackupPolicy::BackupPolicy(const PolicyOptions& options, BatchPlan batches, WorkerDelays delays)
    : batches_(batches),
      delays_(delays),
      backup_(options.backup),
      free_(as_size(options.workers)) {}

// Of the workers with samples, in the order in which they come.
std::vector<BackupPolicy::Arrival> BackupPolicy::arrivals() const {
  std::vector<Arrival> arrivals;
  const auto num_workers = static_cast<int>(free_.size());
  for (int worker = 0; worker < num_workers; ++worker) {
    const std::int64_t samples = samples_of_share(batches_, superstep_, worker, num_workers);
    if (samples > 0) {
      const VirtualTime begin = std::max(now_, free_[as_size(worker)]);
      arrivals.push_back({.at = after(begin, delays_.round_trip(worker, superstep_, samples)),
                          .worker = worker,
                          .begin = begin});
    }
  }
  std::sort(arrivals.begin(), arrivals.end());
  return arrivals;
}

StepPlan BackupPolicy::next() {
  StepPlan plan;
  for (int worker = 0; worker < static_cast<int>(free_.size()); ++worker) {
    plan.shares.push_back({.worker = worker, .version = superstep_, .counts = false});
  }
  const std::vector<Arrival> all = arrivals();
  const std::size_t wanted = std::min(all.size(), free_.size() - as_size(backup_));
  plan.begin = now_;
  plan.end = all[wanted - 1].at;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Arrival& arrival = all[i];
    if (i < wanted) {
      plan.shares[as_size(arrival.worker)].counts = true;
      ++plan.pushes;
    }
    if (arrival.begin < plan.end) {  // it has begun, whether it counts or not
      free_[as_size(arrival.worker)] = arrival.at;
      ++plan.fetches;
    }
  }
  now_ = plan.end;
  ++superstep_;
  return plan;
}

}  // namespace superstep::worker
