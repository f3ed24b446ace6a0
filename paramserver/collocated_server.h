// The default server: every rank owns one shard, beside the worker that computes. With
// `num_servers` the shards are owned by ranks of their own instead (server_ranks.h): the same
// exchange and update, with other owners, and the same bits.
//
// Memory: parameters once per node, optimizer state once per world (each owner's shard), gradients
// n x (partial sums) per rank, where the partial sums are the maximal subtrees of the rank's slots
// (one when its slots form a whole subtree) plus the slot in work; two more when slots are stolen.
//
// Cost of apply_gradients for n parameters, p ranks on one node, k partial sums per rank:
//   w = O(n/p * (p*k + state))  loads,  h = 0 (plain loads and stores),  2 l (3 l with a global
//   norm).
// Between N nodes: each sends n*(N-1)/N partial sums and n/p*(N-1) parameters. With S dedicated
// servers n/S takes the place of n/p, on the servers alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "bsp/slot_tree.h"
#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/server.h"

namespace superstep::paramserver {

enum class SlotDealing : std::uint8_t {
  kAsPlaced,  // every rank computes the slots that the placement gives it
  kStealing,  // ranks of a node that are done take slots from those that are not (slot_queue.h)
};

struct CollocatedOptions {
  OptimizerSpec optimizer;
  LearningRateSchedule schedule;
  ClipOptions clip;
  int num_slots = 1;           // M; at least one per worker
  std::vector<int> placement;  // slot -> rank; empty: contiguous over the workers
  int num_servers = 0;         // ranks that own shards and compute nothing; 0: all do both
  SlotDealing dealing = SlotDealing::kAsPlaced;
  std::int64_t bucket_bytes = 0;  // 0: the whole layout is one bucket
  std::int64_t verify_every = 0;  // updates between two guarded ones (shard_guard.h); 0: none
};

class CollocatedServer : public Server {
 public:
  // Collective. Throws InvalidArgument when there are more workers than slots, or no worker beside
  // the servers. `layout` must outlive it.
  CollocatedServer(bsp::World& world, const ParameterLayout& layout, CollocatedOptions options);
  ~CollocatedServer() override;

  const ParameterLayout& layout() const override;
  ParameterView pull() override;
  std::span<const ElementRange> buckets() const override;
  std::optional<int> claim_slot() override;
  std::span<float> reserve(int slot) override;
  // For the sum over a whole subtree of this rank's next slots (gradient_stack.h), to be pushed in
  // the name of the first one; every slot still has its own summary.
  std::span<float> reserve(bsp::SlotRange subtree);
  void push(int slot, int bucket, std::span<const float> gradient) override;
  void push_summary(int slot, const SlotSummary& summary) override;
  StepResult apply_gradients(const ApplyOptions& options = {}) override;
  // Collective. Ends a compute phase whose gradients stay where they are: summaries and flags are
  // shared, nothing was reserved or pushed, nothing is updated. Two syncs, 32 bytes per slot.
  StepResult share_summaries(std::uint32_t skip_on = 0);
  void set_placement(std::span<const int> placement) override;
  std::span<const int> placement() const override;
  std::int64_t step() const override;
  ExchangeTimes last_times() const override;
  MemoryUse memory_use() const override;

  const OptimizerSpec& optimizer() const;
  ElementRange shard() const;  // what this rank owns
  SlotDealing dealing() const;

  // Flags that a rank raises travel with the next apply_gradients(); StepResult sees their union.
  void raise_flags(std::uint32_t flags);
  std::uint32_t flags() const;  // of the last apply_gradients(), the same on every rank

  // Collective. Every rank gives the whole parameters (initialisation, warm start); the optimizer
  // state is reset.
  void load_parameters(std::span<const float> buffer);
  // How bits that flipped are kept out of a checkpoint, where memory is guarded.
  enum class Verified : std::uint8_t {
    kNow,          // the memory, before parts() returns
    kByItsHashes,  // by those that the writer makes of its copy anyway (ArrayPart::check_hashes)
  };
  // Collective. This rank's shard of parameters and state, and how to restore them.
  std::vector<ArrayPart> parts(Verified verified = Verified::kNow);
  void restore(const CheckpointReader& reader, std::int64_t step);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep::paramserver
