// Executes a bsp::TreeReducePlan over the partial sums that ranks of a node share.
//
//   TreeExchange exchange(world, plan, pieces, shard);
//   exchange.move_between_nodes(also_out, also_in);    // collective; nothing happens on one node
//   std::span<const float> sums = exchange.sum_tile(begin, count);   // part of this rank's shard
//
// pieces[rank] is the base of that rank's pieces, null on other nodes.
//
// Tiles are summed in caller order while they are in cache; intermediate sums live in small tile
// buffers, one more than the levels of the tree, so within a node a shard's reduction reads each
// piece once and writes nothing to memory.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "bsp/tree_reduce.h"
#include "bsp/world.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

class TreeExchange {
 public:
  // `plan` is copied as far as this rank needs it. pieces[r] must remain valid while this object
  // lives.
  TreeExchange(bsp::World& world, const bsp::TreeReducePlan& plan, std::vector<const float*> pieces,
               ElementRange shard);

  // Forms this node's sums for other nodes' shards and exchanges them, together with the caller's
  // own messages. Collective when the world has several nodes; call it after the sync that ends the
  // compute phase.
  void move_between_nodes(std::span<const bsp::Outgoing> also_out,
                          std::span<const bsp::Incoming> also_in);

  // The sum over all slots of shard elements [begin, begin + count), begin relative to the shard,
  // count at most kBlockElements. Valid until the next call.
  std::span<const float> sum_tile(std::int64_t begin, std::int64_t count);

 private:
  // An operand of a tile sum: memory that moves with the tile, or a tile buffer.
  struct Operand {
    const float* base = nullptr;
    int tile = -1;
  };
  struct TileSum {
    Operand left;
    Operand right;
    int target = 0;
  };
  struct LiveTiles {                        // while tiles are planned
    std::map<std::int64_t, int> by_offset;  // sums that were not read yet
    std::vector<int> free;
  };
  struct MemorySum {  // between nodes: a whole sum in memory, to be sent
    float* target = nullptr;
    const float* left = nullptr;
    const float* right = nullptr;
    std::int64_t count = 0;
  };

  const float* address(bsp::Location location) const;
  Operand operand(bsp::Location location, LiveTiles& live) const;
  void plan_tiles(const bsp::TreeReducePlan& plan);
  void plan_messages(const bsp::TreeReducePlan& plan);
  const float* resolve(const Operand& operand, std::int64_t begin) const;

  bsp::World& world_;
  int rank_;
  std::vector<const float*> pieces_;
  std::int64_t pieces_extent_ = 0;  // where scratch begins in this rank's address space
  AlignedBuffer<float> scratch_;    // only between nodes
  AlignedBuffer<float> tiles_;
  std::vector<TileSum> tile_sums_;
  Operand result_;
  std::vector<MemorySum> node_sums_;
  std::vector<bsp::Outgoing> outgoing_;
  std::vector<bsp::Incoming> incoming_;
};

}  // namespace superstep::paramserver
