#include "bsp/tree_reduce.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/check.h"

namespace superstep::bsp {

namespace {

using PieceMap = std::map<std::pair<int, int>, Location>;

// What can be read of one shard: pieces of a node, where the shard begins in each, and sums that
// arrived from other nodes.
struct Readable {
  const PieceMap& of_node;
  const PieceMap& arrived;
  std::int64_t begin = 0;

  std::optional<Location> find(SlotRange range) const {
    const std::pair<int, int> key{range.begin, range.end};
    if (const auto found = arrived.find(key); found != arrived.end()) {
      return found->second;
    }
    if (const auto found = of_node.find(key); found != of_node.end()) {
      return Location{found->second.rank, found->second.offset + begin};
    }
    return std::nullopt;
  }
};

class Planner {
 public:
  explicit Planner(const TreeReduceInput& input)
      : input_(input), num_ranks_(static_cast<int>(input.node_of_rank.size())) {
    collect_nodes();
    collect_pieces();
  }

  TreeReducePlan plan() {
    const bool many_nodes = node_ranks_.size() > 1;
    rounds_.resize(many_nodes ? 2 : 1);
    std::vector<PieceMap> arrived(static_cast<std::size_t>(num_ranks_));
    for (int owner = 0; owner < num_ranks_; ++owner) {
      plan_move(owner, arrived[static_cast<std::size_t>(owner)]);
    }
    std::vector<std::int64_t> moved_extent = extents_;
    for (int owner = 0; owner < num_ranks_; ++owner) {
      results_.push_back(plan_sum(owner, arrived[static_cast<std::size_t>(owner)]));
    }
    return {.schedule = {.num_ranks = num_ranks_,
                         .extents = std::move(extents_),
                         .rounds = std::move(rounds_)},
            .results = std::move(results_),
            .pieces_extent = std::move(pieces_extent_),
            .moved_extent = std::move(moved_extent)};
  }

 private:
  void collect_nodes() {
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const int node = input_.node_of_rank[static_cast<std::size_t>(rank)];
      SUPERSTEP_CHECK(node >= 0, "node of rank", rank);
      if (static_cast<std::size_t>(node) >= node_ranks_.size()) {
        node_ranks_.resize(static_cast<std::size_t>(node) + 1);
      }
      node_ranks_[static_cast<std::size_t>(node)].push_back(rank);
    }
  }

  void collect_pieces() {
    slots_ = slots_of_ranks(input_.placement, num_ranks_);
    node_pieces_.resize(node_ranks_.size());
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const auto ranges =
          maximal_subtrees(input_.num_slots, slots_[static_cast<std::size_t>(rank)]);
      std::int64_t extent = 0;
      std::int64_t index = 0;
      for (const SlotRange range : ranges) {
        const auto first = static_cast<std::size_t>(range.begin);
        const std::int64_t buffer =
            input_.buffer_of_slot.empty() ? index : input_.buffer_of_slot[first];
        node_pieces_[node_index(rank)][{range.begin, range.end}] = {rank,
                                                                    buffer * input_.num_elements};
        extent = std::max(extent, (buffer + 1) * input_.num_elements);
        ++index;
      }
      pieces_extent_.push_back(extent);
    }
    extents_ = pieces_extent_;
    for (std::size_t node = 0; node < node_ranks_.size(); ++node) {
      node_subtrees_.push_back(maximal_subtrees(input_.num_slots, slots_of_node(node)));
    }
  }

  bool takes_part(int rank) const {
    return input_.planning_rank == kEveryRank || input_.planning_rank == rank;
  }

  std::size_t node_index(int rank) const {
    return static_cast<std::size_t>(input_.node_of_rank[static_cast<std::size_t>(rank)]);
  }

  // Sums the subtree `range` of a shard of `count` elements, executed by `at`; appends to
  // `combines`.
  Location evaluate(SlotRange range, const Readable& pieces, int at, std::int64_t count,
                    std::vector<Combine>& combines) {
    if (const std::optional<Location> found = pieces.find(range)) {
      return *found;
    }
    SUPERSTEP_CHECK(range.length() > 1, "no rank holds slot", range.begin);
    const int middle = split_point(range);
    const Location left = evaluate({range.begin, middle}, pieces, at, count, combines);
    const Location right = evaluate({middle, range.end}, pieces, at, count, combines);
    const Location target = scratch(at, count);
    if (takes_part(at)) {
      combines.push_back({.target = target, .left = left, .right = right, .count = count});
    }
    return target;
  }

  Location scratch(int rank, std::int64_t count) {
    std::int64_t& extent = extents_[static_cast<std::size_t>(rank)];
    const Location location{rank, extent};
    extent += count;
    return location;
  }

  // Slots of all ranks of a node, ascending.
  std::vector<int> slots_of_node(std::size_t node) const {
    std::vector<int> slots;
    for (int slot = 0; slot < input_.num_slots; ++slot) {
      if (node_index(input_.placement[static_cast<std::size_t>(slot)]) == node) {
        slots.push_back(slot);
      }
    }
    return slots;
  }

  std::int64_t begin_of(int owner) const { return input_.cuts[static_cast<std::size_t>(owner)]; }
  std::int64_t count_of(int owner) const { return begin_of(owner + 1) - begin_of(owner); }

  // `arrived`: sums of other nodes that the owner can read when its shard has been moved.
  void plan_move(int owner, PieceMap& arrived) {
    for (std::size_t node = 0; node < node_ranks_.size() && count_of(owner) > 0; ++node) {
      if (node != node_index(owner)) {
        send_node_sums(node, owner, arrived);
      }
    }
  }

  Location plan_sum(int owner, const PieceMap& arrived) {
    if (count_of(owner) == 0 || !takes_part(owner)) {
      return {owner, 0};
    }
    return evaluate({0, input_.num_slots},
                    {node_pieces_[node_index(owner)], arrived, begin_of(owner)}, owner,
                    count_of(owner), rounds_.back().combines);
  }

  void send_node_sums(std::size_t node, int owner, PieceMap& arrived) {
    const std::vector<int>& ranks = node_ranks_[node];
    const int worker = ranks[static_cast<std::size_t>(owner) % ranks.size()];
    const PieceMap nothing;
    const Readable pieces{node_pieces_[node], nothing, begin_of(owner)};
    const std::int64_t count = count_of(owner);
    for (const SlotRange range : node_subtrees_[node]) {
      const Location sum = evaluate(range, pieces, worker, count, rounds_.front().combines);
      const Location arrival = scratch(owner, count);
      if (takes_part(sum.rank) || takes_part(owner)) {
        rounds_.back().transfers.push_back({.from = sum, .to = arrival, .count = count});
      }
      if (takes_part(owner)) {
        arrived[{range.begin, range.end}] = arrival;
      }
    }
  }

  const TreeReduceInput& input_;
  int num_ranks_;
  std::vector<std::vector<int>> node_ranks_;
  std::vector<std::vector<int>> slots_;
  std::vector<PieceMap> node_pieces_;                  // by node, without a shard's offset
  std::vector<std::vector<SlotRange>> node_subtrees_;  // by node
  std::vector<std::int64_t> pieces_extent_;
  std::vector<std::int64_t> extents_;
  std::vector<Round> rounds_;
  std::vector<Location> results_;
};

}  // namespace

std::vector<std::vector<int>> slots_of_ranks(std::span<const int> placement, int num_ranks) {
  std::vector<std::vector<int>> slots(static_cast<std::size_t>(num_ranks));
  for (std::size_t slot = 0; slot < placement.size(); ++slot) {
    const int rank = placement[slot];
    SUPERSTEP_CHECK(rank >= 0 && rank < num_ranks, "slot", slot, "is placed on rank", rank);
    slots[static_cast<std::size_t>(rank)].push_back(static_cast<int>(slot));
  }
  return slots;
}

TreeReducePlan plan_tree_reduce(const TreeReduceInput& input) {
  return Planner(input).plan();
}

}  // namespace superstep::bsp
