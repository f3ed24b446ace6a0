#include "worker/policy/sync_policy.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "bsp/slot_tree.h"
#include "worker/policy/backup_policy.h"
#include "worker/policy/downpour_policy.h"
#include "worker/policy/local_policy.h"
#include "worker/policy/ssp_policy.h"

namespace superstep::worker {

namespace {

void require_policy_field(bool holds, std::string_view field, std::int64_t got,
                          std::string_view expected) {
  if (!holds) {
    throw InvalidArgument("PolicyOptions",
                          fmt::format("{}: got {}, expected {}", field, got, expected));
  }
}

}  // namespace

std::string_view name_of(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::kBsp:
      return "bsp";
    case PolicyKind::kSsp:
      return "ssp";
    case PolicyKind::kAsync:
      return "async";
    case PolicyKind::kLocal:
      return "local";
    case PolicyKind::kBackup:
      return "backup";
  }
  return "unknown";
}

bool is_simulated(const PolicyOptions& options) {
  return options.kind != PolicyKind::kBsp || options.workers > 0;
}

void validate(const PolicyOptions& options, int num_slots) {
  validate(options.delay);
  if (!is_simulated(options)) {
    return;
  }
  require_policy_field(options.workers >= 1, "workers", options.workers, "at least 1");
  require_policy_field(options.kind == PolicyKind::kAsync || options.workers <= num_slots,
                       "workers", options.workers,
                       fmt::format("at most the {} microbatches that they share", num_slots));
  require_policy_field(options.staleness >= 0, "staleness", options.staleness, "at least 0");
  require_policy_field(options.warm_start >= 0, "warm_start", options.warm_start, "at least 0");
  require_policy_field(options.n_push >= 1, "n_push", options.n_push, "at least 1");
  require_policy_field(options.n_fetch >= 1, "n_fetch", options.n_fetch, "at least 1");
  require_policy_field(options.local_steps >= 1, "local_steps", options.local_steps, "at least 1");
  require_policy_field(options.local_after >= 0, "local_after", options.local_after, "at least 0");
  if (options.kind == PolicyKind::kBackup) {
    require_policy_field(options.backup >= 0 && options.backup < options.workers, "backup",
                         options.backup,
                         fmt::format("0 to {}, so that one of {} workers counts",
                                     options.workers - 1, options.workers));
  }
}

void PolicyTotals::add(const StepPlan& plan, std::int64_t superstep) {
  end = plan.end;
  pushes += plan.pushes;
  fetches += plan.fetches;
  for (const Share& share : plan.shares) {
    ++shares;
    if (!share.counts) {
      ++dropped;
      continue;
    }
    const std::size_t staleness = as_size(superstep - share.version);
    by_staleness.resize(std::max(by_staleness.size(), staleness + 1), 0);
    ++by_staleness[staleness];
  }
}

double PolicyTotals::staleness_mean() const {
  double sum = 0.0;
  double count = 0.0;
  for (std::size_t staleness = 0; staleness < by_staleness.size(); ++staleness) {
    sum += static_cast<double>(staleness) * static_cast<double>(by_staleness[staleness]);
    count += static_cast<double>(by_staleness[staleness]);
  }
  return count > 0.0 ? sum / count : 0.0;
}

std::vector<int> shares_of_slots(int num_slots, int num_shares) {
  return bsp::contiguous_placement(num_slots, num_shares);
}

std::int64_t samples_of_share(const BatchPlan& batches, std::int64_t superstep, int share,
                              int num_shares) {
  const int num_slots = batches.options().microbatches;
  const std::int64_t num_samples =
      batches.samples_in_step(batches.position_after(superstep).step_in_epoch);
  const auto samples_before_slot = [&](std::int64_t slot) {
    return slot * num_samples / num_slots;
  };
  const std::int64_t first = std::int64_t{share} * num_slots / num_shares;
  const std::int64_t last = (std::int64_t{share} + 1) * num_slots / num_shares;
  return samples_before_slot(last) - samples_before_slot(first);
}

std::unique_ptr<SyncPolicy> make_policy(const PolicyOptions& options, const BatchPlan& batches,
                                        std::int64_t model_bytes) {
  SUPERSTEP_CHECK(is_simulated(options), "a policy without workers");
  validate(options, batches.options().microbatches);
  const WorkerDelays delays(options.delay, model_bytes);
  switch (options.kind) {
    case PolicyKind::kBsp:
    case PolicyKind::kSsp:
      return std::make_unique<SspPolicy>(options, batches, delays);
    case PolicyKind::kAsync:
      return std::make_unique<DownpourPolicy>(options, batches, delays);
    case PolicyKind::kLocal:
      return std::make_unique<LocalPolicy>(options, batches, delays);
    case PolicyKind::kBackup:
      return std::make_unique<BackupPolicy>(options, batches, delays);
  }
  return nullptr;
}

}  // namespace superstep::worker
