// Which ranks own shards and which compute: by default every rank does both (collocated); dedicated
// servers own shards and compute nothing, workers compute and own nothing (DistBelief's parameter
// server; Dean et al. 2012, section 4).
//
// A table of owners like any other: the exchange, the update and the bits are the same. Server j of
// S is the last rank of the j-th of S equal runs of ranks, so that servers spread over the nodes
// and each sits beside the workers it serves. Shards are whole blocks, dealt out evenly: balanced
// in bytes, whatever the sizes of the entries.
//
//   ranks   0  1  2  3  4  5        num_servers = 2 of 6 ranks
//           w  w  S  w  w  S
#pragma once

#include <cstdint>
#include <vector>

#include "paramserver/layout.h"

namespace superstep::paramserver {

// Throws InvalidArgument unless 0 <= num_servers < num_ranks; 0: collocated.
void require_servers(int num_servers, int num_ranks);

// By rank, ascending. Collocated: every rank is both.
std::vector<int> server_ranks(int num_servers, int num_ranks);
std::vector<int> worker_ranks(int num_servers, int num_ranks);

// num_ranks + 1 offsets: rank r owns [cuts[r], cuts[r + 1]), nothing unless it is a server.
std::vector<std::int64_t> owner_cuts(const ParameterLayout& layout, int num_servers, int num_ranks);

// placement[slot] = rank: contiguous over the workers.
std::vector<int> worker_placement(int num_slots, int num_servers, int num_ranks);

}  // namespace superstep::paramserver
