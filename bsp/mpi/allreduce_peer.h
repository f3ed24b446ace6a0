// MPI_Allreduce as it comes, for benchmarks that compare with it; part of no library.
//
// The allocator is told to keep memory, without which Open MPI spends most of a large allreduce in
// page faults of its temporary buffers.
#pragma once

#include <span>

namespace superstep::bsp::internal {

// To be called before Environment is made.
void tune_allocator_for_mpi();

// Whether there are several MPI processes: only then there is a peer to compare with.
bool has_mpi_peer();

// Collective over MPI_COMM_WORLD, one lane per process: out = sum over processes of in.
void peer_allreduce(std::span<const float> in, std::span<float> out);

}  // namespace superstep::bsp::internal
