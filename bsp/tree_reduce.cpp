#include "bsp/tree_reduce.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"

namespace superstep::bsp {

namespace {

using PieceMap = std::map<std::pair<int, int>, Location>;

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
    std::vector<PieceMap> pieces;
    pieces.reserve(static_cast<std::size_t>(num_ranks_));
    for (int owner = 0; owner < num_ranks_; ++owner) {
      pieces.push_back(plan_move(owner));
    }
    std::vector<std::int64_t> moved_extent = extents_;
    for (int owner = 0; owner < num_ranks_; ++owner) {
      results_.push_back(plan_sum(owner, pieces[static_cast<std::size_t>(owner)]));
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
  }

  std::size_t node_index(int rank) const {
    return static_cast<std::size_t>(input_.node_of_rank[static_cast<std::size_t>(rank)]);
  }

  // Sums the subtree `range` of the shard at `begin`, executed by `at`; appends to `combines`.
  Location evaluate(SlotRange range, const PieceMap& pieces, int at, std::int64_t begin,
                    std::int64_t count, std::vector<Combine>& combines) {
    if (const auto found = pieces.find({range.begin, range.end}); found != pieces.end()) {
      return found->second;
    }
    SUPERSTEP_CHECK(range.length() > 1, "no rank holds slot", range.begin);
    const int middle = split_point(range);
    const Location left = evaluate({range.begin, middle}, pieces, at, begin, count, combines);
    const Location right = evaluate({middle, range.end}, pieces, at, begin, count, combines);
    const Location target = scratch(at, count);
    combines.push_back({.target = target, .left = left, .right = right, .count = count});
    return target;
  }

  Location scratch(int rank, std::int64_t count) {
    std::int64_t& extent = extents_[static_cast<std::size_t>(rank)];
    const Location location{rank, extent};
    extent += count;
    return location;
  }

  static PieceMap shifted(const PieceMap& pieces, std::int64_t begin) {
    PieceMap moved = pieces;
    for (auto& [range, location] : moved) {
      location.offset += begin;
    }
    return moved;
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

  // Returns what the owner can read when its shard has been moved.
  PieceMap plan_move(int owner) {
    PieceMap pieces = shifted(node_pieces_[node_index(owner)], begin_of(owner));
    for (std::size_t node = 0; node < node_ranks_.size() && count_of(owner) > 0; ++node) {
      if (node != node_index(owner)) {
        send_node_sums(node, owner, begin_of(owner), count_of(owner), pieces);
      }
    }
    return pieces;
  }

  Location plan_sum(int owner, const PieceMap& pieces) {
    if (count_of(owner) == 0) {
      return {owner, 0};
    }
    return evaluate({0, input_.num_slots}, pieces, owner, begin_of(owner), count_of(owner),
                    rounds_.back().combines);
  }

  void send_node_sums(std::size_t node, int owner, std::int64_t begin, std::int64_t count,
                      PieceMap& pieces) {
    const std::vector<int>& ranks = node_ranks_[node];
    const int worker = ranks[static_cast<std::size_t>(owner) % ranks.size()];
    const PieceMap local = shifted(node_pieces_[node], begin);
    for (const SlotRange range : maximal_subtrees(input_.num_slots, slots_of_node(node))) {
      const Location sum = evaluate(range, local, worker, begin, count, rounds_.front().combines);
      const Location arrival = scratch(owner, count);
      rounds_.back().transfers.push_back({.from = sum, .to = arrival, .count = count});
      pieces[{range.begin, range.end}] = arrival;
    }
  }

  const TreeReduceInput& input_;
  int num_ranks_;
  std::vector<std::vector<int>> node_ranks_;
  std::vector<std::vector<int>> slots_;
  std::vector<PieceMap> node_pieces_;
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
