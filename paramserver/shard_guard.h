// Finds bytes that changed where nobody wrote, in parameters and optimizer state.
//
// Every `every`-th update each owner hashes the blocks of its shard as it wrote them, parameters
// and optimizer state, and all ranks learn the hashes of the parameters. Before a checkpoint is
// made of them, and before a node's gradients leave it, the ranks of each node verify their node's
// copy against them (each its share of the blocks). Owners verify every block of their shard and
// its state right before they update it, while it is on its way through the cache, and hash it
// right after, before it leaves the cache.
// A checkpoint of a copy of the memory needs no hashing for it: the hashes that it makes of the
// copy's blocks are compared. A mismatch throws DataError with exit code kCorruption that names
// rank, host, array, block and entry. Which copy is wrong is known without a vote: the hashes are
// those of the owner at the time of writing.
//
// What it cannot see: bytes that changed between two guarded updates (every = 1 leaves no gap), and
// gradients that were wrong before they were added (worker/gradient_recheck.h).
//
// Cost of a guarded update, n parameters, s state arrays, p ranks, q ranks on the node: hashing
// 2 n/p * (1 + s) elements in the cache, and with several nodes n/p * s + n/q elements more and one
// allgather of 16 bytes per block of 4,096. Of a checkpoint of guarded memory: hashing n/p * s +
// n/q elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "bsp/world.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

class ShardGuard {
 public:
  // `world` and `layout` must outlive the guard. every = 0: nothing is ever guarded. Rank r owns
  // [cuts[r], cuts[r + 1]); empty: an even shard each.
  ShardGuard(bsp::World& world, const ParameterLayout& layout, std::int64_t every,
             std::vector<std::int64_t> cuts = {});

  bool is_due(std::int64_t step) const { return every_ > 0 && step % every_ == 0; }
  bool is_guarding() const { return guarded_step_ >= 0; }

  // Around update number `step`, where it is due: begin_note(), then note_block() for every block
  // of this rank's shard as it was written, and end_note(), which is collective, before the sync
  // that publishes the update. Blocks are named by their first element; `parameters` are those of
  // the whole layout, `states` are of this rank's shard.
  void begin_note(std::size_t num_states);
  void note_block(std::int64_t begin, std::span<const float> parameters,
                  std::span<const std::span<const float>> states);
  void end_note(std::int64_t step);
  // Collective: all of these.
  void note(std::int64_t step, std::span<const float> parameters,
            std::span<const std::span<const float>> states);

  // While nobody writes: throw DataError (kCorruption) on the rank that finds a mismatch. They do
  // nothing unless the last update is guarded. This rank's share of its node's copy, and its state:
  void verify(std::span<const float> parameters,
              std::span<const std::span<const float>> states) const;
  // One block of this rank's shard, and its state, also when blocks before it are noted anew.
  void verify_block(std::int64_t begin, std::span<const float> parameters,
                    std::span<const std::span<const float>> states) const;

  // For what this rank owns as it is now: functions that throw like verify() when the block hashes
  // they are given, of a copy, are not those of the writing. They may be called later, by another
  // thread, while the guard lives; nullptr when the last update is not guarded.
  using HashCheck = std::function<void(std::span<const std::uint64_t>)>;
  HashCheck own_parameters_check() const;
  HashCheck own_state_check(std::size_t index) const;

  // The contents change on purpose.
  void forget() { guarded_step_ = -1; }

 private:
  using Hashes = std::vector<std::uint64_t>;  // low and high half by block

  // Blocks of one array and what was written there.
  struct Expected {
    int array = 0;
    std::int64_t first_block = 0;
    std::int64_t step = -1;
    Hashes hashes;
  };

  void verify_parameters(std::int64_t begin, std::span<const float> parameters) const;
  void verify_states(std::int64_t begin, std::span<const std::span<const float>> states) const;
  std::span<const std::uint64_t> hashes_of(ElementRange range) const;  // of parameters
  HashCheck check_of(Expected expected) const;
  void compare(int array, std::int64_t begin, std::span<const float> block,
               const Hash128& written) const;
  [[noreturn]] void fail(int array, std::int64_t block, std::int64_t step, const Hash128& got,
                         const Hash128& written) const;
  std::string entry_at(std::int64_t block) const;

  bsp::World& world_;
  const ParameterLayout& layout_;
  std::int64_t every_;
  std::vector<std::int64_t> cuts_;
  ElementRange shard_;
  std::int64_t guarded_step_ = -1;
  Hashes parameter_hashes_;           // of all blocks
  std::vector<Hashes> state_hashes_;  // of this rank's shard, by array
};

}  // namespace superstep::paramserver
