// Allreduce between ranks that share memory, processes and lanes alike.
//
// Short messages: every rank lays its elements out in shared memory, all meet, every rank adds
// everything up. Longer ones go chunk by chunk through a small staging area that stays in the
// cache: a rank lays out the parts that others own, reduces the part it owns along the tree over
// ranks, and takes the other parts of the result, three chunks under way at a time, so that each
// chunk costs one meeting. Messages larger than the caches are written past them (non-temporal
// stores): the result is not read again soon, and a line that is written whole need not be fetched.
//
// Same bits as allreduce_schedule(): sums along the tree over ranks. Meetings compare the logs of
// collective calls as sync() does. Memory: (2 p + 2) chunks per node; made at the first use.
// Cost for n bytes per rank: reads 2 n, writes n to memory, the staging traffic stays in the cache;
// ceil(n / chunk) + 1 meetings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "bsp/shared_array.h"
#include "bsp/world.h"

namespace superstep::bsp::internal {

class NodeAllreduce {
 public:
  // Collective over a world of several ranks on one node.
  explicit NodeAllreduce(World& world);

  // Memory of a node of so many ranks.
  static std::int64_t staging_bytes(int num_ranks);

  // Collective. in and out have equal sizes and may be the same.
  void run(World::State& state, std::span<const std::byte> in, std::span<std::byte> out,
           DataType type, ReduceOp op);

 private:
  struct Range {  // bytes of a chunk
    std::int64_t begin = 0;
    std::int64_t length = 0;
  };
  struct Call;

  Range part_of(int rank, std::int64_t chunk_length) const;
  std::byte* staged(int rank, std::int64_t stage) const;
  std::byte* result(std::int64_t stage) const;
  const std::byte* reduce(const Call& call, int first_rank, int last_rank, std::byte* target,
                          std::int64_t stage, Range part, const std::byte* own) const;
  void run_direct(World::State& state, const Call& call);
  void run_chunks(World::State& state, const Call& call);

  int rank_;
  int size_;
  std::int64_t chunk_bytes_;
  SharedBytes staging_;
  std::int64_t stage_ = 0;  // alternates between two sets of buffers, over all calls
};

}  // namespace superstep::bsp::internal
