#include "bsp/mpi/allreduce_peer.h"

#include <malloc.h>
#include <mpi.h>

#include "base/checked_cast.h"
#include "bsp/mpi/mpi_handles.h"

namespace superstep::bsp::internal {

void tune_allocator_for_mpi() {
  constexpr int kKeep = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kKeep);
  mallopt(M_TRIM_THRESHOLD, kKeep);
}

bool has_mpi_peer() {
  int initialized = 0;
  check_mpi(MPI_Initialized(&initialized), "MPI_Initialized");
  int processes = 1;
  if (initialized != 0) {
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &processes), "MPI_Comm_size");
  }
  return processes > 1;
}

void peer_allreduce(std::span<const float> in, std::span<float> out) {
  check_mpi(MPI_Allreduce(in.data(), out.data(), checked_cast<int>(in.size(), "elements"),
                          MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD),
            "MPI_Allreduce");
}

}  // namespace superstep::bsp::internal
