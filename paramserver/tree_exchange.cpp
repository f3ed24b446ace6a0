#include "paramserver/tree_exchange.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace superstep::paramserver {

namespace {

void add(float* __restrict target, const float* __restrict left, const float* __restrict right,
         std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    target[i] = left[i] + right[i];
  }
}

}  // namespace

TreeExchange::TreeExchange(bsp::World& world, const bsp::TreeReducePlan& plan,
                           std::vector<const float*> pieces, ElementRange shard)
    : world_(world),
      rank_(world.rank()),
      pieces_(std::move(pieces)),
      pieces_extent_(plan.pieces_extent[static_cast<std::size_t>(rank_)]) {
  if (plan.schedule.rounds.size() > 1) {
    scratch_ =
        AlignedBuffer<float>(plan.moved_extent[static_cast<std::size_t>(rank_)] - pieces_extent_);
    plan_messages(plan);
  }
  if (shard.length() > 0) {
    plan_tiles(plan);
  }
}

const float* TreeExchange::address(bsp::Location location) const {
  if (location.rank == rank_ && location.offset >= pieces_extent_) {
    SUPERSTEP_CHECK(location.offset - pieces_extent_ < scratch_.size(), "address in scratch",
                    location.offset);
    return scratch_.data() + (location.offset - pieces_extent_);
  }
  const float* base = pieces_[static_cast<std::size_t>(location.rank)];
  SUPERSTEP_CHECK(base != nullptr, "pieces of rank", location.rank, "are on another node");
  return base + location.offset;
}

TreeExchange::Operand TreeExchange::operand(bsp::Location location, LiveTiles& live) const {
  if (location.rank == rank_) {
    if (const auto found = live.by_offset.find(location.offset); found != live.by_offset.end()) {
      const int tile = found->second;
      live.by_offset.erase(found);
      live.free.push_back(tile);
      return {.base = nullptr, .tile = tile};
    }
  }
  return {.base = address(location), .tile = -1};
}

// A sum is read once, by the one above it: its tile is free from then on, so that as many live at a
// time as the tree has levels. The target's is taken before those of its operands are given back,
// since no two of a sum may be the same memory.
void TreeExchange::plan_tiles(const bsp::TreeReducePlan& plan) {
  LiveTiles live;
  int num_tiles = 0;
  for (const bsp::Combine& combine : plan.schedule.rounds.back().combines) {
    if (combine.target.rank != rank_) {
      continue;
    }
    int target = num_tiles;
    if (live.free.empty()) {
      ++num_tiles;
    } else {
      target = live.free.back();
      live.free.pop_back();
    }
    tile_sums_.push_back({.left = operand(combine.left, live),
                          .right = operand(combine.right, live),
                          .target = target});
    live.by_offset[combine.target.offset] = target;
  }
  result_ = operand(plan.results[static_cast<std::size_t>(rank_)], live);
  tiles_ = AlignedBuffer<float>(std::int64_t{num_tiles} * kBlockElements);
}

void TreeExchange::plan_messages(const bsp::TreeReducePlan& plan) {
  for (const bsp::Combine& combine : plan.schedule.rounds.front().combines) {
    if (combine.target.rank == rank_) {
      float* target = scratch_.data() + (combine.target.offset - pieces_extent_);
      node_sums_.push_back({.target = target,
                            .left = address(combine.left),
                            .right = address(combine.right),
                            .count = combine.count});
    }
  }
  for (const bsp::Transfer& transfer : plan.schedule.rounds.back().transfers) {
    const auto count = static_cast<std::size_t>(transfer.count);
    if (transfer.from.rank == rank_) {
      const std::span<const float> values(address(transfer.from), count);
      outgoing_.push_back({.to = transfer.to.rank, .bytes = std::as_bytes(values)});
    }
    if (transfer.to.rank == rank_) {
      const std::span<float> values(scratch_.data() + (transfer.to.offset - pieces_extent_), count);
      incoming_.push_back({.from = transfer.from.rank, .bytes = std::as_writable_bytes(values)});
    }
  }
}

void TreeExchange::move_between_nodes(std::span<const bsp::Outgoing> also_out,
                                      std::span<const bsp::Incoming> also_in) {
  if (world_.num_nodes() == 1) {
    return;
  }
  for (const MemorySum& sum : node_sums_) {
    add(sum.target, sum.left, sum.right, sum.count);
  }
  std::vector<bsp::Outgoing> outgoing(outgoing_);
  outgoing.insert(outgoing.end(), also_out.begin(), also_out.end());
  std::vector<bsp::Incoming> incoming(incoming_);
  incoming.insert(incoming.end(), also_in.begin(), also_in.end());
  world_.exchange(outgoing, incoming);
}

const float* TreeExchange::resolve(const Operand& operand, std::int64_t begin) const {
  return operand.tile < 0 ? operand.base + begin : tiles_.data() + operand.tile * kBlockElements;
}

std::span<const float> TreeExchange::sum_tile(std::int64_t begin, std::int64_t count) {
  for (const TileSum& sum : tile_sums_) {
    add(tiles_.data() + sum.target * kBlockElements, resolve(sum.left, begin),
        resolve(sum.right, begin), count);
  }
  return {resolve(result_, begin), static_cast<std::size_t>(count)};
}

}  // namespace superstep::paramserver
