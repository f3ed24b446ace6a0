#include "tests/simulation/coordinator.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>

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

// Of ten attempts, seven die (four of them at a call to the disk), two meet an error of the disk,
// and one is left alone.
Job draw_job(Simulation& simulation, const SupervisedRun& run, int attempt) {
  PhiloxStream& random = simulation.random();
  Job job{.lanes = static_cast<int>(draw(simulation, 1, run.max_ranks)),
          .ranks_per_node = static_cast<int>(random.below(3)),
          .interruption = {},
          .aftermath = Aftermath::kNothing};
  simulation.disk().fail_after(-1, 0);
  if (attempt >= kAttemptsWithFaults) {
    return job;
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
  return job;
}

cluster::RankVerdict verdict_of(const RunRecord& record, int lanes) {
  if (static_cast<int>(record.ends.size()) < lanes) {
    return cluster::RankVerdict::kIncomplete;
  }
  const bool all_same = std::all_of(record.ends.begin(), record.ends.end(),
                                    [&](const std::string& end) { return end == record.ends[0]; });
  return all_same ? cluster::RankVerdict::kFinished : cluster::RankVerdict::kDisagree;
}

Problem examine_disk(const SupervisedRun& run, const RunRecord& record, std::int64_t newest) {
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
  if (std::cmp_greater(all.size(), run.keep + 1)) {
    return fmt::format("{} checkpoints are left, expected at most {}", all.size(), run.keep + 1);
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
  for (int attempt = 0; attempt <= kAttemptsWithFaults; ++attempt) {
    const Job job = draw_job(simulation, run, attempt);
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
    if (decision.verdict == cluster::Verdict::kGiveUp) {
      if (verdict == cluster::RankVerdict::kDisagree || superstep > newest_before) {
        return where + "given up: " + decision.reason;
      }
      policy = cluster::RestartPolicy({.max_restarts = 100});  // the user starts it again
    }
    newest_before = superstep;
  }
  return "it is not done after an attempt without faults";
}

}  // namespace superstep::simulation
