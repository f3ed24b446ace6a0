#include "tests/simulation/reference_run.h"

#include "base/check.h"

namespace superstep::simulation {

namespace {

constexpr int kUsualRanks = 3;

JobEnd run_all(Simulation& simulation, const SupervisedRun& run, int lanes, RunRecord& record) {
  make_run_directory(simulation, run.checkpoints.parent_path());
  const JobEnd end = run_undisturbed(simulation, run, lanes, record);
  SUPERSTEP_CHECK(end.exit_code == 0 && !record.ends.empty(),
                  "the undisturbed run failed:", end.exit_code);
  return end;
}

}  // namespace

ReferenceRun make_reference(const SupervisedRun& run) {
  ReferenceRun reference;
  RunRecord record;
  {
    Simulation simulation(0);
    const JobEnd end = run_all(simulation, run, kUsualRanks, record);
    reference.num_points = end.num_points;
    reference.num_disk_calls = end.num_disk_calls;
  }
  Simulation simulation(0);
  run_all(simulation, run, 1, record);
  reference.end = record.ends.front();
  for (const std::filesystem::path& path : paramserver::list_checkpoints(run.checkpoints)) {
    const paramserver::CheckpointReader reader(path);
    reference.states[reader.manifest().position.superstep] = reader.manifest().state_hash;
  }
  return reference;
}

void compare_with(const ReferenceRun& reference, std::int64_t every_supersteps,
                  SupervisedRun& run) {
  run.usual_points = reference.num_points;
  run.usual_disk_calls = reference.num_disk_calls / every_supersteps;
  run.right_end = reference.end;
  run.is_right = [&reference](const paramserver::CheckpointReader& reader) {
    const auto found = reference.states.find(reader.manifest().position.superstep);
    return found != reference.states.end() && found->second == reader.manifest().state_hash;
  };
}

}  // namespace superstep::simulation
