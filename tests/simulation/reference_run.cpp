#include "tests/simulation/reference_run.h"

#include "base/check.h"

namespace superstep::simulation {

ReferenceRun make_reference(const SupervisedRun& run) {
  Simulation simulation(0);
  make_run_directory(simulation, run.checkpoints.parent_path());
  RunRecord record;
  const JobEnd end = run_undisturbed(simulation, run, 1, record);
  SUPERSTEP_CHECK(end.exit_code == 0 && record.ends.size() == 1,
                  "the undisturbed run failed:", end.exit_code);
  ReferenceRun reference;
  reference.end = record.ends.front();
  for (const std::filesystem::path& path : paramserver::list_checkpoints(run.checkpoints)) {
    const paramserver::CheckpointReader reader(path);
    reference.states[reader.manifest().position.superstep] = reader.manifest().state_hash;
  }
  return reference;
}

void compare_with(const ReferenceRun& reference, SupervisedRun& run) {
  run.right_end = reference.end;
  run.is_right = [&reference](const paramserver::CheckpointReader& reader) {
    const auto found = reference.states.find(reader.manifest().position.superstep);
    return found != reference.states.end() && found->second == reader.manifest().state_hash;
  };
}

}  // namespace superstep::simulation
