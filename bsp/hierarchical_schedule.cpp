// The allreduce over sharing levels. The elements are cut into p shards, one owner each. In a node
// the work for a shard falls to one rank, so that a node's ranks divide all shards evenly:
//   1. within nodes, every rank sends each worker its part; workers form the sums of the maximal
//      subtrees (bsp/slot_tree.h) that the ranks of the node consist of
//   2. workers send these sums to the owners, who finish along the tree
//   3. owners send their results to one worker per node
//   4. within nodes, workers send their parts to everyone
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "base/check.h"
#include "bsp/schedule.h"
#include "bsp/schedule_parts.h"

namespace superstep::bsp {

namespace {

struct NodeRanks {
  int first = 0;
  int size = 0;
  std::vector<SlotRange> subtrees;
};

std::vector<NodeRanks> nodes_of(std::span<const int> node_of_rank) {
  const auto num_ranks = static_cast<int>(node_of_rank.size());
  std::vector<NodeRanks> nodes;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    if (rank == 0 || node_of_rank[i] != node_of_rank[i - 1]) {
      nodes.push_back({rank, 0, {}});
    }
    ++nodes.back().size;
  }
  for (NodeRanks& node : nodes) {
    std::vector<int> ranks(static_cast<std::size_t>(node.size));
    std::iota(ranks.begin(), ranks.end(), node.first);
    node.subtrees = maximal_subtrees(num_ranks, ranks);
  }
  return nodes;
}

class HierarchicalPlanner {
 public:
  HierarchicalPlanner(std::span<const int> node_of_rank, std::int64_t n)
      : num_ranks_(static_cast<int>(node_of_rank.size())),
        n_(n),
        nodes_(nodes_of(node_of_rank)),
        plan_{.schedule = internal::empty_schedule(num_ranks_, 2 * n), .result_offset = n} {
    plan_.schedule.rounds.resize(4);
  }

  AllreducePlan plan() {
    for (const NodeRanks& node : nodes_) {
      for (int worker = 0; worker < node.size; ++worker) {
        sum_part(node, worker);
      }
    }
    for (int owner = 0; owner < num_ranks_; ++owner) {
      finish_shard(owner);
      return_shard(owner);
    }
    for (const NodeRanks& node : nodes_) {
      for (int worker = 0; worker < node.size; ++worker) {
        share_part(node, worker);
      }
    }
    return std::move(plan_);
  }

 private:
  using Pieces = std::map<std::pair<int, int>, Location>;  // by subtree

  std::int64_t cut(std::int64_t shard) const { return n_ * shard / num_ranks_; }
  // The shards of a worker are contiguous; this is the first one of worker number `worker`.
  std::int64_t first_shard(const NodeRanks& node, int worker) const {
    return (static_cast<std::int64_t>(worker) * num_ranks_ + node.size - 1) / node.size;
  }
  std::int64_t part_begin(const NodeRanks& node, int worker) const {
    return cut(first_shard(node, worker));
  }
  int worker_of(const NodeRanks& node, int shard) const {
    return static_cast<int>(static_cast<std::int64_t>(shard) * node.size / num_ranks_);
  }

  Location scratch(int rank, std::int64_t count) {
    std::int64_t& extent = plan_.schedule.extents[static_cast<std::size_t>(rank)];
    const Location location{rank, extent};
    extent += count;
    return location;
  }

  void sum_part(const NodeRanks& node, int worker) {
    const int me = node.first + worker;
    const std::int64_t begin = part_begin(node, worker);
    const std::int64_t count = part_begin(node, worker + 1) - begin;
    std::vector<Location>& sums = sums_of_.emplace_back();
    if (count == 0) {
      sums.resize(node.subtrees.size(), {me, 0});
      return;
    }
    Round& round = plan_.schedule.rounds[0];
    std::vector<Location> pieces;
    for (int i = 0; i < node.size; ++i) {
      pieces.push_back(i == worker ? Location{me, begin} : scratch(me, count));
      if (i != worker) {
        internal::add_transfer(round, {node.first + i, begin}, pieces.back(), count);
      }
    }
    for (const SlotRange subtree : node.subtrees) {
      sums.push_back(internal::combine_tree({subtree.begin - node.first, subtree.end - node.first},
                                            pieces, worker, nullptr, count, round.combines));
    }
  }

  void finish_shard(int owner) {
    const std::int64_t begin = cut(owner);
    const std::int64_t count = cut(owner + 1) - begin;
    if (count == 0) {
      return;
    }
    Round& round = plan_.schedule.rounds[1];
    const Location result{owner, n_ + begin};
    Pieces pieces;
    for (const NodeRanks& node : nodes_) {
      const int worker = worker_of(node, owner);
      const int worker_rank = node.first + worker;
      const auto& sums = sums_of_[static_cast<std::size_t>(worker_rank)];
      for (std::size_t i = 0; i < sums.size(); ++i) {
        Location sum{sums[i].rank, sums[i].offset + begin - part_begin(node, worker)};
        const bool is_whole = node.subtrees[i].length() == num_ranks_;
        if (sum.rank != owner || is_whole) {
          const Location to = is_whole ? result : scratch(owner, count);
          internal::add_transfer(round, sum, to, count);
          sum = to;
        }
        pieces[{node.subtrees[i].begin, node.subtrees[i].end}] = sum;
      }
    }
    sum_pieces({0, num_ranks_}, pieces, owner, &result, count, round.combines);
  }

  Location sum_pieces(SlotRange range, const Pieces& pieces, int owner, const Location* target,
                      std::int64_t count, std::vector<Combine>& combines) {
    if (const auto found = pieces.find({range.begin, range.end}); found != pieces.end()) {
      return found->second;
    }
    const int middle = split_point(range);
    const Location left =
        sum_pieces({range.begin, middle}, pieces, owner, nullptr, count, combines);
    const Location right = sum_pieces({middle, range.end}, pieces, owner, nullptr, count, combines);
    const Location sum = target != nullptr ? *target : scratch(owner, count);
    combines.push_back({.target = sum, .left = left, .right = right, .count = count});
    return sum;
  }

  void return_shard(int owner) {
    const std::int64_t begin = cut(owner);
    for (const NodeRanks& node : nodes_) {
      const int worker = node.first + worker_of(node, owner);
      if (worker != owner) {
        internal::add_transfer(plan_.schedule.rounds[2], {owner, n_ + begin}, {worker, n_ + begin},
                               cut(owner + 1) - begin);
      }
    }
  }

  void share_part(const NodeRanks& node, int worker) {
    const std::int64_t begin = part_begin(node, worker);
    const std::int64_t count = part_begin(node, worker + 1) - begin;
    for (int i = 0; i < node.size; ++i) {
      if (i != worker) {
        internal::add_transfer(plan_.schedule.rounds[3], {node.first + worker, n_ + begin},
                               {node.first + i, n_ + begin}, count);
      }
    }
  }

  int num_ranks_;
  std::int64_t n_;
  std::vector<NodeRanks> nodes_;
  std::vector<std::vector<Location>> sums_of_;  // by worker's rank, by subtree of its node
  AllreducePlan plan_;
};

}  // namespace

AllreducePlan hierarchical_allreduce_schedule(std::span<const int> node_of_rank, std::int64_t n) {
  SUPERSTEP_CHECK(!node_of_rank.empty() && n >= 0, "no allreduce", node_of_rank.size(), n);
  return HierarchicalPlanner(node_of_rank, n).plan();
}

}  // namespace superstep::bsp
