// Policies on the virtual clock: examples worked out by hand, and what holds for any delays.
#include "worker/policy/sync_policy.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "worker/policy/worker_delays.h"

namespace superstep::worker {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t kModelBytes = 1000;

// 5 steps an epoch: four of 16 samples and one of 1, in 8 slots.
BatchPlan uneven_batches() {
  return BatchPlan(65, {.global_batch = 16, .microbatches = 8, .seed = 1});
}

// A second per sample, for everybody.
PolicyOptions steady(PolicyKind kind, int workers) {
  PolicyOptions options{.kind = kind, .workers = workers};
  options.delay.seconds_per_sample = 1.0;
  return options;
}

PolicyOptions jittery(PolicyKind kind, int workers, std::uint64_t seed = 1) {
  PolicyOptions options = steady(kind, workers);
  options.delay.speed_deviation = 0.3;
  options.delay.jitter_deviation = 0.5;
  options.delay.bytes_per_second = 500.0;
  options.delay.seed = seed;
  return options;
}

std::vector<StepPlan> plans(const PolicyOptions& options, int count) {
  const std::unique_ptr<SyncPolicy> policy = make_policy(options, uneven_batches(), kModelBytes);
  std::vector<StepPlan> all;
  for (int i = 0; i < count; ++i) {
    all.push_back(policy->next());
  }
  return all;
}

std::vector<std::int64_t> versions_of(const StepPlan& plan) {
  std::vector<std::int64_t> versions;
  for (const Share& share : plan.shares) {
    versions.push_back(share.version);
  }
  return versions;
}

std::vector<int> counted(const StepPlan& plan) {
  std::vector<int> workers;
  for (const Share& share : plan.shares) {
    if (share.counts) {
      workers.push_back(share.worker);
    }
  }
  return workers;
}

TEST(WorkerDelays, AreSamplesTimesSecondsWithoutDeviation) {
  const WorkerDelays delays({.seconds_per_sample = 0.5, .bytes_per_second = 250.0}, kModelBytes);
  EXPECT_EQ(delays.compute(3, 7, 6), seconds(3));
  EXPECT_EQ(delays.transfer(), seconds(4));
  EXPECT_EQ(delays.round_trip(3, 7, 6), seconds(11));
}

TEST(WorkerDelays, DifferBetweenWorkersAndStepsAsTold) {
  const WorkerDelays speeds({.seconds_per_sample = 1.0, .speed_deviation = 0.5}, 0);
  EXPECT_EQ(speeds.compute(2, 0, 8), speeds.compute(2, 1, 8));
  EXPECT_NE(speeds.compute(2, 0, 8), speeds.compute(3, 0, 8));
  const WorkerDelays jitter({.seconds_per_sample = 1.0, .jitter_deviation = 0.5}, 0);
  EXPECT_NE(jitter.compute(2, 0, 8), jitter.compute(2, 1, 8));
  EXPECT_EQ(jitter.compute(2, 1, 8), jitter.compute(2, 1, 8));
}

// The median of e^(deviation N) is 1, whatever the deviation.
TEST(WorkerDelays, HaveTheMedianThatIsTold) {
  const WorkerDelays delays({.seconds_per_sample = 1.0, .jitter_deviation = 0.8}, 0);
  std::vector<VirtualTime> all;
  for (int step = 0; step < 4001; ++step) {
    all.push_back(delays.compute(0, step, 1));
  }
  std::nth_element(all.begin(), all.begin() + 2000, all.end());
  // The median of n log-normal numbers deviates by about 0.8 sqrt(pi / 2 / n) = 0.016.
  EXPECT_NEAR(virtual_seconds(all[2000]), 1.0, 4 * 0.016);
}

TEST(SamplesOfShares, AddUpToTheStep) {
  const BatchPlan batches = uneven_batches();
  for (std::int64_t superstep = 0; superstep < 10; ++superstep) {
    for (const int workers : {1, 3, 8}) {
      std::int64_t sum = 0;
      for (int share = 0; share < workers; ++share) {
        sum += samples_of_share(batches, superstep, share, workers);
      }
      EXPECT_EQ(sum, superstep % 5 == 4 ? 1 : 16);
    }
  }
}

TEST(BspPolicy, ReadsTheNewestAndWaitsForTheSlowest) {
  const std::vector<StepPlan> all = plans(steady(PolicyKind::kBsp, 4), 6);
  for (std::int64_t i = 0; i < 6; ++i) {
    EXPECT_THAT(versions_of(all[static_cast<std::size_t>(i)]), ElementsAre(i, i, i, i));
  }
  EXPECT_EQ(all[0].end, seconds(4));
  EXPECT_EQ(all[3].end, seconds(16));
  // One worker has the one sample; the others have nothing and take a nanosecond.
  EXPECT_EQ(all[4].end, seconds(17));
  EXPECT_EQ(all[5].begin, seconds(17));
}

TEST(SspPolicy, OfStalenessZeroIsBsp) {
  const std::vector<StepPlan> bsp = plans(jittery(PolicyKind::kBsp, 5), 40);
  const std::vector<StepPlan> ssp = plans(jittery(PolicyKind::kSsp, 5), 40);
  for (std::size_t i = 0; i < bsp.size(); ++i) {
    EXPECT_EQ(versions_of(ssp[i]), versions_of(bsp[i]));
    EXPECT_EQ(ssp[i].end, bsp[i].end);
  }
}

// The definition, with the times of all clocks kept.
TEST(SspPolicy, FollowsItsDefinition) {
  constexpr int kWorkers = 3;
  constexpr std::int64_t kClocks = 60;
  for (const std::int64_t staleness : {0, 1, 2, 5}) {
    PolicyOptions options = jittery(PolicyKind::kSsp, kWorkers);
    options.staleness = staleness;
    const WorkerDelays delays(options.delay, kModelBytes);
    const BatchPlan batches = uneven_batches();
    std::vector<VirtualTime> complete;
    std::vector<VirtualTime> finished(kWorkers);
    const std::vector<StepPlan> all = plans(options, kClocks);
    for (std::int64_t clock = 0; clock < kClocks; ++clock) {
      const StepPlan& plan = all[static_cast<std::size_t>(clock)];
      VirtualTime last{};
      for (int worker = 0; worker < kWorkers; ++worker) {
        VirtualTime& mine = finished[static_cast<std::size_t>(worker)];
        const std::int64_t must_be_complete = clock - staleness - 1;
        const VirtualTime gate = must_be_complete < 0
                                     ? VirtualTime{}
                                     : complete[static_cast<std::size_t>(must_be_complete)];
        const VirtualTime begin = std::max(mine, gate);
        const auto there = std::count_if(complete.begin(), complete.end(),
                                         [&](VirtualTime time) { return time <= begin; });
        EXPECT_EQ(plan.shares[static_cast<std::size_t>(worker)].version, there);
        EXPECT_GE(there, clock - staleness);
        mine = begin +
               delays.round_trip(worker, clock, samples_of_share(batches, clock, worker, kWorkers));
        last = std::max(last, mine);
      }
      complete.push_back(last);
      EXPECT_EQ(plan.end, last);
    }
  }
}

TEST(SspPolicy, GetsFasterAndStalerWithTheBound) {
  VirtualTime previous = kNever;
  double previous_staleness = -1.0;
  for (const std::int64_t staleness : {0, 1, 3, 8}) {
    PolicyOptions options = jittery(PolicyKind::kSsp, 4);
    options.delay.speed_deviation = 0.0;  // a worker that is always the slowest never waits
    options.staleness = staleness;
    PolicyTotals totals;
    std::int64_t superstep = 0;
    for (const StepPlan& plan : plans(options, 300)) {
      totals.add(plan, superstep++);
    }
    EXPECT_LT(totals.end, previous) << staleness;
    EXPECT_GT(totals.staleness_mean(), previous_staleness) << staleness;
    EXPECT_LE(totals.by_staleness.size(), static_cast<std::size_t>(staleness + 1));
    previous = totals.end;
    previous_staleness = totals.staleness_mean();
  }
}

// What is said to be needed is exactly what is read later.
void expect_needed_versions(const PolicyOptions& options) {
  constexpr std::int64_t kSupersteps = 80;
  const std::vector<StepPlan> all = plans(options, kSupersteps + 100);
  const std::unique_ptr<SyncPolicy> policy = make_policy(options, uneven_batches(), kModelBytes);
  for (std::int64_t done = 1; done <= kSupersteps; ++done) {
    policy->next();
    std::vector<std::int64_t> read_later;
    for (auto plan = all.begin() + done; plan != all.end(); ++plan) {
      for (const Share& share : plan->shares) {
        if (share.version < done && share.own_steps == 0) {
          read_later.push_back(share.version);
        }
      }
    }
    std::sort(read_later.begin(), read_later.end());
    read_later.erase(std::unique(read_later.begin(), read_later.end()), read_later.end());
    EXPECT_EQ(policy->versions_needed(), read_later) << "after " << done;
  }
}

TEST(VersionsNeeded, AreThoseThatAreReadLater) {
  PolicyOptions ssp = jittery(PolicyKind::kSsp, 4);
  ssp.staleness = 3;
  expect_needed_versions(ssp);
  PolicyOptions async = jittery(PolicyKind::kAsync, 5);
  expect_needed_versions(async);
  async.warm_start = 7;
  expect_needed_versions(async);
  async.n_push = 2;
  async.n_fetch = 3;
  expect_needed_versions(async);
}

// Three workers of one speed: they push in turn, and fetch when all of the instant have pushed.
TEST(DownpourPolicy, FollowsAnExampleWorkedOutByHand) {
  const std::vector<StepPlan> all = plans(steady(PolicyKind::kAsync, 3), 7);
  std::vector<std::pair<int, std::int64_t>> pushes;
  for (const StepPlan& plan : all) {
    pushes.emplace_back(plan.shares.front().worker, plan.shares.front().version);
  }
  EXPECT_EQ(pushes, (std::vector<std::pair<int, std::int64_t>>{
                        {0, 0}, {1, 0}, {2, 0}, {0, 3}, {1, 3}, {2, 3}, {0, 6}}));
  EXPECT_EQ(all[2].end, seconds(16));
  EXPECT_EQ(all[3].end, seconds(32));
}

// Two workers of one speed: fetches at their steps 0, 3, 6; pushes after 1, 3, 5.
TEST(DownpourPolicy, PushesAndFetchesAtItsIntervals) {
  PolicyOptions options = steady(PolicyKind::kAsync, 2);
  options.n_push = 2;
  options.n_fetch = 3;
  options.delay.bytes_per_second = 500.0;  // two seconds for a transfer
  const std::vector<StepPlan> all = plans(options, 10);
  std::vector<int> pushes;
  std::vector<int> fetches;
  std::vector<std::int64_t> versions;
  std::vector<std::int64_t> own_steps;
  std::vector<bool> goes_on;
  for (std::size_t i = 0; i < all.size(); i += 2) {  // worker 0
    EXPECT_EQ(all[i].shares.front().worker, 0);
    EXPECT_EQ(all[i].exchanges, all[i].pushes == 1);
    pushes.push_back(static_cast<int>(all[i].pushes));
    fetches.push_back(static_cast<int>(all[i].fetches));
    versions.push_back(all[i].shares.front().version);
    own_steps.push_back(all[i].shares.front().own_steps);
    goes_on.push_back(all[i].goes_on);
  }
  EXPECT_THAT(pushes, ElementsAre(0, 1, 0, 1, 0));
  EXPECT_THAT(fetches, ElementsAre(1, 0, 0, 1, 0));
  EXPECT_THAT(versions, ElementsAre(0, 0, 0, 6, 6));
  EXPECT_THAT(own_steps, ElementsAre(0, 1, 2, 0, 1));
  EXPECT_THAT(goes_on, ElementsAre(true, true, false, true, true));
  EXPECT_EQ(all[0].end, seconds(18));
  EXPECT_EQ(all[2].end, seconds(18 + 18));
  EXPECT_EQ(all[4].end, seconds(18 + 18 + 16));
}

TEST(DownpourPolicy, WarmsUpWithOneReplica) {
  PolicyOptions options = jittery(PolicyKind::kAsync, 4);
  options.warm_start = 6;
  const std::vector<StepPlan> all = plans(options, 30);
  std::int64_t stale = 0;
  for (std::int64_t i = 0; i < 30; ++i) {
    const Share& share = all[static_cast<std::size_t>(i)].shares.front();
    if (i < 6) {
      EXPECT_EQ(share.worker, 0);
      EXPECT_EQ(share.version, i);
    } else {
      EXPECT_GE(share.version, 6);
      stale += share.version < i ? 1 : 0;
    }
  }
  EXPECT_GT(stale, 0);
}

TEST(DownpourPolicy, OfOneWorkerIsNeverStale) {
  std::int64_t superstep = 0;
  for (const StepPlan& plan : plans(jittery(PolicyKind::kAsync, 1), 20)) {
    EXPECT_EQ(plan.shares.front().version, superstep++);
  }
}

TEST(BackupPolicy, CountsTheFirst) {
  PolicyOptions options = steady(PolicyKind::kBackup, 4);
  options.backup = 1;
  const std::vector<StepPlan> all = plans(options, 5);
  EXPECT_THAT(counted(all[0]), ElementsAre(0, 1, 2));  // all come at once
  EXPECT_EQ(all[0].end, seconds(4));
  EXPECT_THAT(counted(all[4]), ElementsAre(3));  // the only one with a sample
  EXPECT_EQ(all[4].end, seconds(17));
}

TEST(BackupPolicy, WithoutBackupsIsBsp) {
  PolicyOptions options = jittery(PolicyKind::kBackup, 5);
  options.backup = 0;
  const std::vector<StepPlan> bsp = plans(jittery(PolicyKind::kBsp, 5), 4);
  const std::vector<StepPlan> backup = plans(options, 4);
  for (std::size_t i = 0; i < bsp.size(); ++i) {
    EXPECT_THAT(counted(backup[i]), ElementsAre(0, 1, 2, 3, 4));
    EXPECT_EQ(backup[i].end, bsp[i].end);
  }
}

TEST(BackupPolicy, CutsTheTailOfStragglers) {
  PolicyOptions options = jittery(PolicyKind::kBackup, 8);
  options.delay.speed_deviation = 0.0;
  options.delay.bytes_per_second = 0.0;
  options.backup = 2;
  const std::vector<StepPlan> backup = plans(options, 200);
  options.kind = PolicyKind::kBsp;
  const std::vector<StepPlan> bsp = plans(options, 200);
  EXPECT_LT(virtual_seconds(backup.back().end), 0.8 * virtual_seconds(bsp.back().end));
  for (std::size_t i = 0; i < backup.size(); ++i) {
    const bool is_last_of_epoch = i % 5 == 4;
    EXPECT_EQ(counted(backup[i]).size(), is_last_of_epoch ? 1U : 6U) << i;
  }
}

TEST(LocalPolicy, AveragesEveryFewStepsAndAtTheEndOfAnEpoch) {
  PolicyOptions options = steady(PolicyKind::kLocal, 4);
  options.local_steps = 2;
  std::vector<bool> averages;
  for (const StepPlan& plan : plans(options, 10)) {
    averages.push_back(plan.exchanges);
  }
  EXPECT_THAT(averages,
              ElementsAre(false, true, false, true, true, false, true, false, true, true));
}

TEST(LocalPolicy, AveragesEveryStepFirstWhenPostLocal) {
  PolicyOptions options = steady(PolicyKind::kLocal, 4);
  options.local_steps = 3;
  options.local_after = 2;
  std::vector<bool> averages;
  for (const StepPlan& plan : plans(options, 10)) {
    averages.push_back(plan.exchanges);
  }
  EXPECT_THAT(averages,
              ElementsAre(true, true, false, false, true, false, false, true, false, true));
}

TEST(LocalPolicy, WaitsAndSendsOnlyWhereItAverages) {
  PolicyOptions options = jittery(PolicyKind::kLocal, 4);
  options.local_steps = 4;
  PolicyTotals local;
  PolicyTotals bsp;
  std::int64_t superstep = 0;
  for (const StepPlan& plan : plans(options, 200)) {
    local.add(plan, superstep++);
  }
  options.kind = PolicyKind::kBsp;
  superstep = 0;
  for (const StepPlan& plan : plans(options, 200)) {
    bsp.add(plan, superstep++);
  }
  EXPECT_EQ(bsp.pushes, 800);
  EXPECT_EQ(local.pushes, 2 * 4 * 40);  // after four steps, and after the fifth
  EXPECT_LT(local.end, bsp.end);
}

TEST(PolicyOptions, AreRefusedWithTheReason) {
  const auto complaint = [](const PolicyOptions& options) -> std::string {
    try {
      validate(options, 8);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no complaint";
  };
  PolicyOptions options = steady(PolicyKind::kSsp, 4);
  EXPECT_EQ(complaint(options), "no complaint");
  options.staleness = -1;
  EXPECT_THAT(complaint(options), HasSubstr("staleness: got -1, expected at least 0"));
  EXPECT_THAT(complaint(steady(PolicyKind::kSsp, 9)),
              HasSubstr("workers: got 9, expected at most the 8 microbatches"));
  EXPECT_EQ(complaint(steady(PolicyKind::kAsync, 9)), "no complaint");
  EXPECT_THAT(complaint(steady(PolicyKind::kLocal, 0)), HasSubstr("workers: got 0"));
  options = steady(PolicyKind::kBackup, 4);
  options.backup = 4;
  EXPECT_THAT(complaint(options), HasSubstr("backup: got 4, expected 0 to 3"));
  options = steady(PolicyKind::kAsync, 4);
  options.n_push = 0;
  EXPECT_THAT(complaint(options), HasSubstr("n_push: got 0, expected at least 1"));
  options = steady(PolicyKind::kLocal, 4);
  options.local_steps = 0;
  EXPECT_THAT(complaint(options), HasSubstr("local_steps: got 0"));
  options.local_steps = 1;
  options.delay.seconds_per_sample = 0.0;
  EXPECT_THAT(complaint(options), HasSubstr("seconds_per_sample: got 0"));
}

TEST(PolicyTotals, CountByStaleness) {
  PolicyTotals totals;
  totals.add({.shares = {{.version = 5}, {.version = 3}, {.version = 4, .counts = false}},
              .end = seconds(2),
              .pushes = 2,
              .fetches = 3},
             5);
  EXPECT_THAT(totals.by_staleness, ElementsAre(1, 0, 1));
  EXPECT_EQ(totals.shares, 3);
  EXPECT_EQ(totals.dropped, 1);
  EXPECT_EQ(totals.staleness_mean(), 1.0);
  EXPECT_EQ(totals.end, seconds(2));
  EXPECT_THAT(PolicyTotals{}.by_staleness, IsEmpty());
}

}  // namespace
}  // namespace superstep::worker
