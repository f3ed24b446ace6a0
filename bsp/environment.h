// Starts the SPMD section: one Environment per process, made first thing in main.
//
//   int main(int argc, char** argv) {
//     bsp::Environment environment;  // starts MPI if mpirun launched this process
//     return environment.run({.lanes = 2}, [](bsp::World& world) { ... });
//   }
//
// Without mpirun no MPI call is ever made: one process, `lanes` ranks as threads. Under mpirun
// every process runs `lanes` ranks; all MPI calls go to our own duplicated communicator with
// MPI_ERRORS_RETURN.
//
// Set-up (up to the start of the body) has a deadline of its own: processes that are not heard of
// for so long are named, and the job ends with exit code 75. It is 120 s, or what the environment
// variable SUPERSTEP_SETUP_DEADLINE_SECONDS says.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"

namespace superstep::bsp {

class World;

enum class CollectiveChecks : std::uint8_t {
  kAtSync,     // the sequence of collectives is compared at every sync()
  kEveryCall,  // and before every collective, before it can do harm (default of debug builds)
};

struct EnvironmentOptions {
  int lanes = 1;
  // 0: nodes are the machines. k > 0: every k consecutive ranks are treated as a node of their own,
  // so that the path between nodes can be tested on one machine.
  int ranks_per_node = 0;
  std::chrono::milliseconds sync_deadline{60'000};
  // What to do about a rank that failed with this code; said after its report, unless it takes too
  // long to be found. Called on a thread of its own, which may be left behind when the process
  // ends. May be empty, may return nothing. Must not throw.
  std::function<std::string(ExitCode)> remedy = {};
  // Where this process writes what its ranks do (bsp/status_recorder.h); empty: nowhere.
  std::filesystem::path status_file = {};
#ifdef NDEBUG
  CollectiveChecks checks = CollectiveChecks::kAtSync;
#else
  CollectiveChecks checks = CollectiveChecks::kEveryCall;
#endif
};

class Environment {
 public:
  // Throws InvalidArgument when SUPERSTEP_SETUP_DEADLINE_SECONDS is no positive integer.
  Environment();
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment();

  // Did mpirun start this process? Can be asked before there is an Environment.
  static bool launched_by_mpirun();

  bool under_mpirun() const;
  int process() const;
  int num_processes() const;
  // MPI_Get_library_version, one line; empty without mpirun.
  std::string mpi_library() const;
  bool is_root_process() const { return process() == 0; }

  // Collective over processes, before run(): agrees whether set-up failed anywhere. When it did,
  // the root prints each distinct message once with the processes that had it; returns false on
  // every process.
  bool agree_on_setup(const std::optional<std::string>& failure);

  // Runs `body` once per rank (lane 0 on the calling thread) and returns the process's exit code.
  // Before the body starts, lanes and the options are compared across processes. If a body throws,
  // its message goes to standard error with the rank, the other ranks are released (lanes) or ended
  // (MPI_Abort with the error's exit code), and the exit code is the error's.
  int run(const EnvironmentOptions& options, const std::function<void(World&)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep::bsp
