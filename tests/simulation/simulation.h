// A job of Superstep in one thread, on a simulated disk, with faults: a function of its seed.
//
// What runs is the program itself. The calls by which it waits, starts threads, reads the clock and
// touches the disk are defined once more in this test program (system_threads.cpp,
// system_files.cpp) and lead to the Scheduler and the Disk of the current Simulation; elsewhere,
// and on paths outside kRoot, they are the system's own.
//
//   Simulation simulation(seed);
//   JobEnd end = simulation.run({.lanes = 3, .interruption = {.at_disk_call = 17}},
//                               [&](bsp::World& world) { ... });
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "bsp/world.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/scheduler.h"

namespace superstep::simulation {

// Everything below lies on the simulated disk.
inline constexpr const char* kRoot = "/simulated";

enum class Aftermath : std::uint8_t {
  kNothing,
  kPowerLoss,  // what was not synced may be lost
};

struct Job {
  int lanes = 1;
  int ranks_per_node = 0;  // as in EnvironmentOptions
  Interruption interruption = {};
  Aftermath aftermath = Aftermath::kNothing;
};

struct JobEnd {
  Scheduler::End end = Scheduler::End::kFinished;
  int exit_code = 0;  // 137 when it was killed
  std::int64_t num_points = 0;
  std::int64_t num_disk_calls = 0;
};

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed);
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;
  ~Simulation();

  // The one that lives; null when none does.
  static Simulation* current();

  JobEnd run(const Job& job, const std::function<void(bsp::World&)>& body);
  // A schedule point of the calling rank.
  void step() { scheduler_.step(); }

  Scheduler& scheduler() { return scheduler_; }
  Disk& disk() { return disk_; }
  // For what happens to the jobs; not for what happens in them.
  PhiloxStream& random() { return random_; }

 private:
  Scheduler scheduler_;
  Disk disk_;
  PhiloxStream random_;
};

}  // namespace superstep::simulation
