// What a killed Open MPI job leaves on this machine, found by the job's own number and removed.
//
// A job that was killed leaves shared memory of its ranks in /dev/shm (ours, superstep-JOB-*, and
// Open MPI's, vader_segment.*) and mpirun's session directory below TMPDIR. Nothing of another job
// is touched: names carry the job's number or mpirun's process id. Machines other than this one
// clean up after themselves (a rank removes what dead processes of the same user left,
// bsp/shared_memory.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace superstep::cluster {

// After all processes of the job have ended. Returns what was removed. Throws nothing.
std::vector<std::string> remove_leftovers(std::optional<std::uint32_t> daemon_job, pid_t mpirun);

// The host file that this launcher writes for an attempt, and all of a launcher's.
std::filesystem::path hostfile_of(pid_t launcher, std::int64_t attempt);
void remove_hostfiles(pid_t launcher);

}  // namespace superstep::cluster
