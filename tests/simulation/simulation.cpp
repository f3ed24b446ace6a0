#include "tests/simulation/simulation.h"

#include <csignal>

#include "base/check.h"
#include "bsp/environment.h"

namespace superstep::simulation {

namespace {

constexpr int kKilled = 128 + SIGKILL;

// System calls carry no argument that could say which simulation they belong to.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
Simulation* the_simulation = nullptr;

}  // namespace

Simulation::Simulation(std::uint64_t seed)
    : scheduler_(seed), disk_(seed), random_(seed, stream_id("simulation/faults")) {
  SUPERSTEP_CHECK(the_simulation == nullptr, "one simulation at a time");
  disk_.make_directory(kRoot);
  disk_.sync(disk_.open(-1, "/", 0));
  disk_.close_all();
  the_simulation = this;
}

Simulation::~Simulation() {
  the_simulation = nullptr;
}

Simulation* Simulation::current() {
  return the_simulation;
}

JobEnd Simulation::run(const Job& job, const std::function<void(bsp::World&)>& body) {
  JobEnd result;
  const auto main = [&] {
    bsp::Environment environment;
    bsp::EnvironmentOptions options;
    options.lanes = job.lanes;
    options.ranks_per_node = job.ranks_per_node;
    result.exit_code = environment.run(options, [&](bsp::World& world) {
      scheduler_.become_rank(world.rank());
      body(world);
    });
  };
  result.end = scheduler_.run(main, job.interruption);
  if (result.end == Scheduler::End::kKilled) {
    result.exit_code = scheduler_.exit_code() == 0 ? kKilled : scheduler_.exit_code();
  }
  result.num_points = scheduler_.num_points();
  result.num_disk_calls = scheduler_.num_disk_calls();
  disk_.close_all();
  if (job.aftermath == Aftermath::kPowerLoss) {
    disk_.lose_power();
  }
  return result;
}

}  // namespace superstep::simulation
