#include "tests/simulation/coordinator.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>

#include "base/checked_cast.h"
#include "base/error.h"
#include "base/file.h"
#include "cluster/launch_policy.h"

namespace superstep::simulation {

namespace fs = std::filesystem;

namespace {

// Then the faults are over, and the next attempt must succeed.
constexpr int kAttemptsWithFaults = 6;
constexpr std::uint64_t kLongestAfterlife = 400;

std::int64_t draw(Simulation& simulation, std::int64_t least, std::int64_t most) {
  const auto count = static_cast<std::uint64_t>(most - least + 1);
  return least + static_cast<std::int64_t>(simulation.random().below(count));
}

struct Attempt {
  Job job;
  bool is_left_alone = false;  // nothing happens to it while it runs
};

// Of ten attempts, seven die (four of them at a call to the disk), two meet an error of the disk,
// and one is left alone.
Attempt draw_attempt(Simulation& simulation, const SupervisedRun& run, int number) {
  PhiloxStream& random = simulation.random();
  Job job{.lanes = static_cast<int>(draw(simulation, 1, run.max_ranks)),
          .ranks_per_node = static_cast<int>(random.below(3)),
          .interruption = {},
          .aftermath = Aftermath::kNothing};
  simulation.disk().fail_after(-1, 0);
  if (number >= kAttemptsWithFaults) {
    return {.job = job, .is_left_alone = true};
  }
  const std::uint64_t kind = random.below(10);
  if (kind < 4) {
    job.interruption.at_disk_call = draw(simulation, 1, run.usual_disk_calls);
  } else if (kind < 7) {
    job.interruption.at_point = draw(simulation, 1, run.usual_points);
  } else if (kind < 9) {
    simulation.disk().fail_after(draw(simulation, 0, run.usual_disk_calls),
                                 random.below(2) == 0 ? ENOSPC : EIO);
  }
  if (random.below(2) == 0) {
    job.interruption.others_live_on = static_cast<std::int64_t>(random.below(kLongestAfterlife));
  }
  job.aftermath = random.below(2) == 0 ? Aftermath::kPowerLoss : Aftermath::kNothing;
  return {.job = job, .is_left_alone = kind == 9};
}

// Dying ranks and errors of the disk are no reason for these.
bool is_never_right(int exit_code) {
  return exit_code >= static_cast<int>(ExitCode::kRanksDisagree) &&
         exit_code <= static_cast<int>(ExitCode::kCorruption);
}

cluster::RankVerdict verdict_of(const RunRecord& record, int lanes) {
  if (static_cast<int>(record.ends.size()) < lanes) {
    return cluster::RankVerdict::kIncomplete;
  }
  const bool all_same = std::all_of(record.ends.begin(), record.ends.end(),
                                    [&](const std::string& end) { return end == record.ends[0]; });
  return all_same ? cluster::RankVerdict::kFinished : cluster::RankVerdict::kDisagree;
}

Problem examine_disk(const SupervisedRun& run, RunRecord& record, std::int64_t newest) {
  const std::vector<paramserver::ExaminedCheckpoint> all =
      paramserver::examine_checkpoints(run.checkpoints);
  for (const paramserver::ExaminedCheckpoint& checkpoint : all) {
    if (!checkpoint.problem.empty()) {
      return "a finished checkpoint is damaged: " + checkpoint.problem;
    }
    if (!run.is_right(paramserver::CheckpointReader(checkpoint.directory))) {
      return fmt::format("{} is not that of the undisturbed run", checkpoint.directory.native());
    }
  }
  if (newest < record.written) {
    return fmt::format("the newest checkpoint is of superstep {}, but {} had been written", newest,
                       record.written);
  }
  // One more: whoever was stopped between sealing the newest and pruning the oldest.
  const int most = std::max(run.keep, record.left) + 1;
  record.left = checked_cast<int>(all.size());
  if (record.left > most) {
    return fmt::format("{} checkpoints are left, expected at most {}", all.size(), most);
  }
  return std::nullopt;
}

std::int64_t superstep_of(const Checkpoint& checkpoint) {
  return checkpoint.has_value()
             ? paramserver::CheckpointReader(*checkpoint).manifest().position.superstep
             : -1;
}

JobEnd run_attempt(Simulation& simulation, const SupervisedRun& run, const Job& job,
                   RunRecord& record) {
  record.ends.clear();
  const Checkpoint resume_from = paramserver::newest_verified_checkpoint(run.checkpoints, nullptr);
  return simulation.run(job, [&](bsp::World& world) { run.body(world, resume_from, record); });
}

}  // namespace

void make_run_directory(Simulation& simulation, const fs::path& directory) {
  simulation.disk().make_directory(directory);
  fsync_directory(directory.parent_path());
}

JobEnd run_undisturbed(Simulation& simulation, const SupervisedRun& run, int lanes,
                       RunRecord& record) {
  return run_attempt(simulation, run, {.lanes = lanes}, record);
}

Problem supervise(Simulation& simulation, const SupervisedRun& run) {
  RunRecord record;
  cluster::RestartPolicy policy({.max_restarts = 100});
  std::int64_t newest_before = -1;
  for (int attempt = 0;; ++attempt) {
    const auto [job, is_left_alone] = draw_attempt(simulation, run, attempt);
    const JobEnd end = run_attempt(simulation, run, job, record);
    const std::string where =
        fmt::format("attempt {} ({} ranks, {} per node, exit code {}): ", attempt, job.lanes,
                    job.ranks_per_node, end.exit_code);
    if (end.end == Scheduler::End::kStuck) {
      return where + "it does not come to an end";
    }
    const Checkpoint newest = paramserver::newest_verified_checkpoint(run.checkpoints, nullptr);
    const std::int64_t superstep = superstep_of(newest);
    if (const Problem problem = examine_disk(run, record, superstep); problem.has_value()) {
      return where + *problem;
    }
    const cluster::RankVerdict verdict = verdict_of(record, job.lanes);
    const cluster::Decision decision = policy.after({.exit_code = end.exit_code,
                                                     .ranks = verdict,
                                                     .run_on_disk = true,
                                                     .checkpoint_superstep = superstep});
    if (decision.verdict == cluster::Verdict::kDone) {
      return record.ends[0] == run.right_end
                 ? Problem()
                 : where + fmt::format("ended with {}, the undisturbed run with {}", record.ends[0],
                                       run.right_end);
    }
    if (is_left_alone) {
      return where + "failed without a fault: " + decision.reason;
    }
    if (is_never_right(end.exit_code)) {
      return where + decision.reason;
    }
    if (decision.verdict == cluster::Verdict::kGiveUp) {
      if (verdict == cluster::RankVerdict::kDisagree || superstep > newest_before) {
        return where + "given up: " + decision.reason;
      }
      policy = cluster::RestartPolicy({.max_restarts = 100});  // the user starts it again
    }
    newest_before = superstep;
  }
}

}  // namespace superstep::simulation
