// A communication plan as data: who sends what to whom in which round, and which sums are formed
// where.
//
// Every rank has an address space of elements [0, extent(rank)). A round first moves (all transfers
// of a round read the state before the round), then combines in the order listed. Processes over
// MPI, lanes in one process, the prover and the cost model execute the same value; an algorithm is
// written once.
//
// A combine may read operands of other ranks only if they share a node with the rank that executes
// it (plain loads from shared memory); a transfer may cross nodes.
//
// Cost of a round: h = max over ranks of max(elements sent, elements received) -> h*g + l.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bsp/slot_tree.h"

namespace superstep::bsp {

struct Location {
  int rank = 0;
  std::int64_t offset = 0;  // elements
};

struct Transfer {
  Location from;
  Location to;
  std::int64_t count = 0;
};

// target = left + right, executed by target.rank.
struct Combine {
  Location target;
  Location left;
  Location right;
  std::int64_t count = 0;
};

struct Round {
  std::vector<Transfer> transfers;
  std::vector<Combine> combines;
};

struct Schedule {
  int num_ranks = 0;
  std::vector<std::int64_t> extents;  // elements each rank's address space needs, scratch included
  std::vector<Round> rounds;

  std::int64_t elements_sent(int rank) const;
  std::int64_t elements_received(int rank) const;
};

// What the prover found wrong, empty when nothing: a combine across nodes, an address outside an
// extent, two writers of one element in a round, a read of an element never written.
// `initialised(rank)` gives the element ranges a rank starts with.
std::vector<std::string> prove(
    const Schedule& schedule, std::span<const int> node_of_rank,
    const std::function<std::vector<std::pair<std::int64_t, std::int64_t>>(int rank)>& initialised);

// Runs the schedule over in-process buffers, buffers[rank].size() >= extents[rank] (the oracle).
void simulate(const Schedule& schedule, std::span<std::vector<double>> buffers);
void simulate(const Schedule& schedule, std::span<std::vector<float>> buffers);

// What crosses between ranks in all rounds; copies within a rank do not count.
struct RankTraffic {
  std::int64_t elements_sent = 0;
  std::int64_t elements_received = 0;
  std::int64_t messages_sent = 0;
};
std::vector<RankTraffic> traffic_of(const Schedule& schedule);  // by rank, in one pass

// Collectives as schedules; docs/collectives.md has rounds, elements and messages of each. Every
// rank's address space starts with its own n elements at offset 0. All sums go along the fixed tree
// over ranks, so that the
// choice of an algorithm never changes bits.
Schedule broadcast_schedule(int num_ranks, int root, std::int64_t n);  // binomial tree
// The elements of rank r stand at offset (sum of counts before r) of every rank. One round; beyond
// 64 ranks recursive doubling, ceil(log2 p) rounds.
Schedule allgather_schedule(std::span<const std::int64_t> counts);
// One round. The root's address space is its own elements, then the concatenation.
Schedule gather_schedule(std::span<const std::int64_t> counts, int root);
// Sum in fixed tree order over ranks; rank r ends with its part of `counts` at offset 0 of
// result_offset. One round; beyond 64 ranks recursive halving and a round that hands the parts to
// their owners.
struct ReduceScatterPlan {
  Schedule schedule;
  std::vector<std::int64_t> result_offsets;  // per rank
};
ReduceScatterPlan reduce_scatter_schedule(std::span<const std::int64_t> counts);
struct AllreducePlan {
  Schedule schedule;
  std::int64_t result_offset = 0;
};
// Rounds and elements sent per rank:
enum class AllreduceAlgorithm : std::uint8_t {
  kDirect,             // 1; (p - 1) n
  kShards,             // 2; 2 (p - 1)/p n, in 2 (p - 1) messages
  kRecursiveDoubling,  // ceil(log2 p); log2(p) n for powers of two, else at most (p - 1) n
  kHalvingDoubling,    // 2 ceil(log2 p); 2 (p - 1)/p n for powers of two, else at most 2 n
};
AllreduceAlgorithm allreduce_algorithm(int num_ranks, std::int64_t n);  // which one is taken
AllreducePlan allreduce_schedule(AllreduceAlgorithm algorithm, int num_ranks, std::int64_t n);
AllreducePlan allreduce_schedule(int num_ranks, std::int64_t n);

// Over the sharing levels: sums within a node, between nodes, and the way back; 4 rounds. For N
// nodes whose ranks form whole subtrees a node sends 2 (N - 1)/N n elements to other nodes, however
// many ranks it has. node_of_rank: ranks of a node are contiguous.
AllreducePlan hierarchical_allreduce_schedule(std::span<const int> node_of_rank, std::int64_t n);

}  // namespace superstep::bsp
