// MPI for one process: started when mpirun launched it, ended with this object.
//
// Communication goes over one duplicated communicator whose processes are renumbered node-major:
// processes of one machine are consecutive whatever mapping mpirun chose. Errors return and are
// checked at every call. Thread level MPI_THREAD_SERIALIZED: calls are serialised by one lock that
// is never held while waiting for another process. No MPI type appears here, so that mpi.h stays in
// this folder's sources.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "bsp/transport.h"

namespace superstep::bsp::internal {

struct MpiHandles;

class MpiSession {
 public:
  // Did mpirun (or another PMIx launcher) start this process?
  static bool launched();

  MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  ~MpiSession();  // MPI_Finalize, which waits for the other processes

  int process() const;
  int num_processes() const;
  // By process: machines are numbered from 0 in process order.
  const std::vector<int>& machine_of() const;
  const std::vector<std::string>& host_of() const;
  // What MPI says it is, one line.
  static std::string library();

  // All processes; of the world that `context` names (0: set-up).
  std::unique_ptr<Transport> transport(std::uint32_t context);

  // Ends all processes of the job with this exit code. What was to be said must be on standard
  // error.
  [[noreturn]] void abort(ExitCode exit_code);

 private:
  std::shared_ptr<MpiHandles> handles_;
  std::vector<int> machine_of_;
  std::vector<std::string> host_of_;
};

}  // namespace superstep::bsp::internal
