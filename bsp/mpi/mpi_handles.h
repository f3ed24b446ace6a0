// What the sources of this folder share, without MPI's types, so that mpi.h stays in them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bsp/transport.h"

namespace superstep::bsp::internal {

struct MpiHandles {
  std::mutex mutex;                    // held during every MPI call after set-up
  std::shared_ptr<void> communicator;  // an MPI_Comm
  int process = 0;
  int num_processes = 1;
  int largest_tag = 0;
  std::atomic<std::uint32_t> reservations{0};
};

// Ranks for the error message; -1: does not apply.
struct Peers {
  int rank = -1;
  int peer = -1;
};

// Throws CommunicationError naming routine, ranks and MPI's own text unless `code` is MPI_SUCCESS.
void check_mpi(int code, const char* routine, Peers peers = {});

// Names the set-up and control messages; worlds have contexts from 1 on.
inline constexpr std::uint32_t kJobContext = 0;

// Whether synchronise() calls MPI_Ibarrier: only the world of Environment::run does, because all
// calls on the communicator must come in the same order on all processes.
enum class Barrier : std::uint8_t { kMessages, kMessagesAndMpi };

// `members`: the MPI ranks of the transport's processes.
std::unique_ptr<Transport> mpi_transport(std::shared_ptr<MpiHandles> handles,
                                         std::vector<int> members, std::uint32_t context,
                                         Barrier barrier);

}  // namespace superstep::bsp::internal
