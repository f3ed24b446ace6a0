// What a training loop sees of the parameters: pull them, push gradients of slots, apply an update.
//
// A superstep on a Server:
//   ParameterView parameters = server.pull();
//   while (const std::optional<int> slot = server.claim_slot()) {
//     std::span<float> gradient = server.reserve(*slot);    // memory for this slot's gradient sums
//     ... write sums over the slot's samples ...
//     for (bucket...) server.push(*slot, bucket, part of gradient);
//     server.push_summary(*slot, {.num_samples = n, .loss_sum = ...});
//   }
//   StepResult result = server.apply_gradients(options);          // sync, exchange + update, sync
//
// Slots carry sums and counts; the division by the number of samples happens once, at the owner of
// a shard. Gradients of slots are added along the fixed tree over slots (bsp/slot_tree.h), so
// parameters after a step have the same bits for every number of ranks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "bsp/world.h"
#include "paramserver/layout.h"
#include "paramserver/learning_rate.h"
#include "paramserver/optimizer.h"

namespace superstep::paramserver {

// The published parameters, read-only. Valid until the next apply_gradients().
class ParameterView {
 public:
  ParameterView(const ParameterLayout& layout, std::span<const float> buffer)
      : layout_(&layout), buffer_(buffer) {}
  std::span<const float> entry(int index) const {
    const LayoutEntry& e = layout_->entries()[static_cast<std::size_t>(index)];
    return buffer_.subspan(static_cast<std::size_t>(e.offset),
                           static_cast<std::size_t>(e.num_elements()));
  }
  std::span<const float> buffer() const { return buffer_; }

 private:
  const ParameterLayout* layout_;
  std::span<const float> buffer_;
};

// Sums over the samples of a slot; added up along the same tree.
struct SlotSummary {
  std::int64_t num_samples = 0;
  std::int64_t num_correct = 0;
  double loss_sum = 0.0;
};

struct ClipOptions {
  double value = 0.0;  // clip every element of the mean gradient to [-value, value]; 0: off
  double global_norm =
      0.0;  // scale the mean gradient so that its L2 norm is at most this; 0: off. One more sync.
};

// What happens to the entries a partial update leaves out.
enum class MaskedState : std::uint8_t {
  kKeep,          // value and optimizer state stay as they are (default)
  kZeroGradient,  // the entry gets a gradient of zero: momentum and weight decay still move it
};

// What becomes of the entries that are statistics.
enum class StatisticRule : std::uint8_t {
  kFold,     // as the entry says (LayoutEntry::fold)
  kReplace,  // the mean of what was pushed takes their place
};

struct ShardStep;  // paramserver/shard_updater.h

// Stands between the mean gradient and the update of the shard: keeps gradients back, or adds to
// them what it kept (Downpour's n_push). One thread at a time; no collective calls but publish().
class GradientGate {
 public:
  enum class Pass : std::uint8_t { kNo, kYes };

  virtual ~GradientGate() = default;
  // Whether this step updates the parameters: the same on every rank.
  virtual Pass passes() const = 0;
  // The mean gradient of a part of this rank's shard, from the absolute element `begin` on; what is
  // left in `mean` is what the update sees, if the step passes.
  virtual void on_mean(const ShardStep& step, std::int64_t begin, std::span<float> mean) = 0;
  // Collective, after the last on_mean(): brings other nodes what this one's owners wrote.
  virtual void publish(std::span<const std::int64_t> cuts) = 0;
};

struct ApplyOptions {
  // One flag per layout entry; empty: all are updated.
  std::vector<bool> mask;
  MaskedState masked = MaskedState::kKeep;
  StatisticRule statistics = StatisticRule::kFold;
  // When any rank raised one of these flags, nothing is added up or updated, on any rank.
  std::uint32_t skip_on = 0;
  GradientGate* gate = nullptr;
};

struct StepResult {
  SlotSummary total;  // over all slots, the same on every rank
  double learning_rate = 0.0;
  double gradient_norm = 0.0;  // NaN unless clip.global_norm is on
  std::int64_t step = 0;       // updates done so far
  bool skipped = false;        // by ApplyOptions::skip_on: parameters and state are as they were
};

// What one rank's part of a superstep took, for the superstep's record.
struct ExchangeTimes {
  double exchange_seconds = 0.0;  // reducing, clipping, updating, publishing
  double sync_seconds = 0.0;      // waiting in the syncs
};

struct MemoryUse {  // bytes on this node; state in the world
  std::int64_t parameters_per_node = 0;
  std::int64_t gradients_per_node = 0;
  // Beside the slots' gradients: sums on their way between nodes, and the mean of each rank's shard
  // where the norm of all decides how it is clipped.
  std::int64_t exchange_per_node = 0;
  std::int64_t optimizer_state_per_world = 0;
};

class Server {
 public:
  virtual ~Server() = default;

  virtual const ParameterLayout& layout() const = 0;
  virtual ParameterView pull() = 0;
  // Contiguous ranges of the layout in which gradients may be pushed one after another.
  virtual std::span<const ElementRange> buckets() const = 0;
  // The next slot for this rank to compute in this superstep; none when it has done its part. A
  // caller that knows its slots from placement() need not ask, unless slots are stolen.
  virtual std::optional<int> claim_slot() = 0;
  // Slots are taken in the order in which claim_slot() gives them; one slot at a time is open.
  virtual std::span<float> reserve(int slot) = 0;
  virtual void push(int slot, int bucket, std::span<const float> gradient) = 0;
  virtual void push_summary(int slot, const SlotSummary& summary) = 0;
  // Collective. Ends the compute phase: all slots of this rank must have been pushed.
  virtual StepResult apply_gradients(const ApplyOptions& options = {}) = 0;
  // Collective. placement[slot] = rank; takes effect at the next superstep and never changes
  // results.
  virtual void set_placement(std::span<const int> placement) = 0;
  virtual std::span<const int> placement() const = 0;

  // Collective access to whole state, for checkpoints and initialisation.
  virtual std::int64_t step() const = 0;
  virtual ExchangeTimes last_times() const = 0;
  virtual MemoryUse memory_use() const = 0;
};

}  // namespace superstep::paramserver
