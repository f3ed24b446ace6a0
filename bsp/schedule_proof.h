// Proofs about the collectives' schedules, without running a rank: for given p, that
//   - every address is in range, nothing is read before it is written, no element has two writers
//     in a round (bsp::prove),
//   - what the ranks would execute is matched, the k-th send of a to b in a round by the k-th
//     receive of b from a, of the same length, and no rank waits for ever (prove_progress),
//   - the result is right for all inputs: elements are symbols, and each element of the result must
//     be the sum of the right elements in the order of the fixed tree (TreeSum).
//
// Every function returns what is wrong, empty when nothing.
//
//   EXPECT_THAT(prove_allreduce(allreduce_schedule(1'024, n), nodes, n), IsEmpty());
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bsp/execute.h"
#include "bsp/schedule.h"
#include "bsp/slot_tree.h"

namespace superstep::bsp {

// A symbol: the sum of element `element` over ranks [begin, end), added up along the tree over
// these ranks (bsp/slot_tree.h). left + right is nothing (the default) unless it is such a sum
// again.
struct TreeSum {
  std::int32_t element = -1;
  std::int16_t begin = 0;
  std::int16_t end = 0;

  friend bool operator==(const TreeSum&, const TreeSum&) = default;
};
inline TreeSum operator+(const TreeSum& left, const TreeSum& right) {
  const int length = right.end - left.begin;
  const bool adjacent = left.element == right.element && left.end == right.begin &&
                        left.begin < left.end && right.begin < right.end;
  if (!adjacent || split_point({0, length}) != left.end - left.begin) {
    return {};
  }
  return {left.element, left.begin, right.end};
}
void simulate(const Schedule& schedule, std::span<std::vector<TreeSum>> buffers);

// Ranks execute their rounds in order; in a round a rank posts all receives and sends and goes on
// when all are done, a send not before its receive is posted (rendezvous: no buffering is assumed).
std::vector<std::string> prove_progress(std::span<const internal::RankPlan> plans);

// All three proofs. node_of_rank as for prove().
std::vector<std::string> prove_allreduce(const AllreducePlan& plan,
                                         std::span<const int> node_of_rank, std::int64_t n);
std::vector<std::string> prove_reduce_scatter(const ReduceScatterPlan& plan,
                                              std::span<const int> node_of_rank,
                                              std::span<const std::int64_t> counts);
std::vector<std::string> prove_allgather(const Schedule& schedule,
                                         std::span<const int> node_of_rank,
                                         std::span<const std::int64_t> counts);
std::vector<std::string> prove_gather(const Schedule& schedule, std::span<const int> node_of_rank,
                                      std::span<const std::int64_t> counts, int root);
std::vector<std::string> prove_broadcast(const Schedule& schedule,
                                         std::span<const int> node_of_rank, int root,
                                         std::int64_t n);

}  // namespace superstep::bsp
