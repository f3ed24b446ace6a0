// The processes of this machine, as /proc shows them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <sys/types.h>

namespace superstep::cluster {

// A process that has not ended. One that only waits to be reaped has.
struct RunningProcess {
  pid_t parent = 0;
  std::uint64_t started = 0;  // clock ticks after the machine did: tells one of a pid from the next
};

std::optional<RunningProcess> find_running(pid_t pid);
// Whoever is there at the moment, ended ones included.
std::vector<pid_t> all_processes();

}  // namespace superstep::cluster
