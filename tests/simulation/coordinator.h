// A run that is started, dies, and is started again on another number of ranks, until it is done:
// what `superstep launch` does, with its own decisions (cluster/launch_policy.h), and what must
// hold between two attempts.
//
// After every attempt:
// - whatever is named like a checkpoint verifies, and is the undisturbed run's at that superstep;
// - the newest one is not older than the last one that any rank was told is written;
// - of finished ones there are no more than are to be kept, and the one before the last was pruned;
// - an attempt that no fault met is done, and none ended because ranks disagreed, because of
//   numbers or because of changed bytes (exit codes 5 to 7).
// At the end every rank has the hash of the undisturbed run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "tests/simulation/seeds.h"
#include "tests/simulation/simulation.h"

namespace superstep::simulation {

// What survives a job: it is known to whoever watches.
struct RunRecord {
  std::int64_t written = -1;      // superstep of the newest checkpoint that was said to be written
  int left = 0;                   // checkpoints on disk after the attempt before
  std::vector<std::string> ends;  // hashes of the ranks that are done, in this attempt

  void note_written(std::int64_t superstep) { written = std::max(written, superstep); }
};

using Checkpoint = std::optional<std::filesystem::path>;

struct SupervisedRun {
  std::filesystem::path checkpoints;
  int keep = 3;
  int max_ranks = 4;
  // How long an undisturbed attempt is, about: when it dies is drawn from it.
  std::int64_t usual_points = 0;
  std::int64_t usual_disk_calls = 0;
  // One rank of one attempt. Notes in the record what was written, and the hash in the end.
  std::function<void(bsp::World&, const Checkpoint& resume_from, RunRecord&)> body;
  // Is it the undisturbed run's?
  std::function<bool(const paramserver::CheckpointReader&)> is_right;
  std::string right_end;
};

// An undisturbed attempt on `lanes` ranks, from the beginning: its record and its length.
JobEnd run_undisturbed(Simulation& simulation, const SupervisedRun& run, int lanes,
                       RunRecord& record);

// Until it is done, with faults in the first attempts.
Problem supervise(Simulation& simulation, const SupervisedRun& run);

// An empty directory for the checkpoints' own, durably there.
void make_run_directory(Simulation& simulation, const std::filesystem::path& directory);

}  // namespace superstep::simulation
