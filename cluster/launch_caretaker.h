// A process that outlives the launcher: when the launcher is killed, it sees to it that mpirun and
// its ranks end, and removes what they leave behind.
//
// mpirun gets SIGTERM when the launcher dies and removes its session folder, but its ranks, ended
// at the same time, may make parts of it anew; and an mpirun that is killed in turn removes
// nothing. The caretaker waits for both, kills what does not end, and cleans up
// (cluster/launch_leftovers.h). It has no terminal, no open files of the launcher's and no part in
// a launch that ends by itself.
//
//   Caretaker caretaker;             // before any thread or child
//   caretaker.watch(mpirun, job);    // whenever more is known of the attempt
//   caretaker.forget();              // the launcher has cleaned up itself
#pragma once

#include <cstdint>
#include <optional>

#include <sys/types.h>

#include "base/file_descriptor.h"

namespace superstep::cluster {

class Caretaker {
 public:
  // Starts the process. Where that fails the launch goes on without one.
  Caretaker();
  Caretaker(const Caretaker&) = delete;
  Caretaker& operator=(const Caretaker&) = delete;
  // The caretaker ends when nothing is watched.
  ~Caretaker() = default;

  // `daemon_job`: as of Diagnosis::daemon_job().
  void watch(pid_t mpirun, std::optional<std::uint32_t> daemon_job);
  void forget();

 private:
  internal::FileDescriptor launcher_;  // closed when the launcher ends, however it ends
};

}  // namespace superstep::cluster
