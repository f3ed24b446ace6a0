// Collectives along the fixed tree over ranks in ceil(log2 p) rounds each way, for any p.
//
// In round j the two halves of every group of 2^(j+1) ranks meet (internal::Meeting): an inner node
// of the tree. Each rank of a half knows, or holds a segment of, the sum of its half; both halves
// add left + right. That is recursive doubling and halving (Thakur, Rabenseifner, Gropp 2005) with
// the partners at distance 1 first, which makes the order of additions the tree of
// bsp/slot_tree.h. The last group of a level may have a smaller right half: its ranks then serve
// several ranks of the left one each. The usual way for other p than powers of two, to fold the
// surplus ranks into others first, would change the order.
#pragma once

#include <cstdint>
#include <span>

#include "bsp/schedule.h"

namespace superstep::bsp::internal {

// Address space: in [0, n), out [n, 2n), what arrives [2n, 3n).
AllreducePlan doubling_allreduce(int num_ranks, std::int64_t n);

// Address space: in [0, n), out [n, 2n), what arrives: n/2 elements.
AllreducePlan halving_doubling_allreduce(int num_ranks, std::int64_t n);

// Address space: in [0, n), out [n, n + counts[rank]), sums (n), what arrives (n/2).
ReduceScatterPlan halving_reduce_scatter(std::span<const std::int64_t> counts);

Schedule doubling_allgather(std::span<const std::int64_t> counts);

}  // namespace superstep::bsp::internal
