#include "paramserver/slot_gradients.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "base/check.h"
#include "bsp/tree_reduce.h"

namespace superstep::paramserver {

namespace {

// A rank takes no slots from others while it has no buffer for one: two more than its own slots
// need let it go on for as long as the stolen ones come from one neighbour.
constexpr int kBuffersForStolenSlots = 2;

}  // namespace

std::vector<std::int64_t> gradient_buffers(int num_slots,
                                           const std::vector<std::vector<int>>& slots_of_ranks,
                                           SlotDealing dealing) {
  const int for_stolen = dealing == SlotDealing::kStealing ? kBuffersForStolenSlots : 0;
  std::vector<std::int64_t> buffers;
  buffers.reserve(slots_of_ranks.size());
  for (const std::vector<int>& own : slots_of_ranks) {
    buffers.push_back(GradientStack::capacity(num_slots, own) + for_stolen);
  }
  return buffers;
}

std::int64_t most_per_node(std::span<const std::int64_t> by_rank,
                           std::span<const int> node_of_rank) {
  std::map<int, std::int64_t> per_node;
  std::int64_t most = 0;
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
    most = std::max(most, per_node[node_of_rank[rank]] += by_rank[rank]);
  }
  return most;
}

std::vector<std::int64_t> exchange_scratch(const bsp::TreeReducePlan& plan) {
  std::vector<std::int64_t> elements(plan.pieces_extent.size());
  std::transform(plan.moved_extent.begin(), plan.moved_extent.end(), plan.pieces_extent.begin(),
                 elements.begin(), std::minus<>());
  return elements;
}

std::int64_t exchange_elements(std::vector<std::int64_t> scratch,
                               std::span<const std::int64_t> cuts,
                               std::span<const int> node_of_rank, const ClipOptions& clip) {
  if (clip.global_norm > 0.0) {
    for (std::size_t rank = 0; rank < scratch.size(); ++rank) {
      scratch[rank] += cuts[rank + 1] - cuts[rank];
    }
  }
  return most_per_node(scratch, node_of_rank);
}

std::int64_t SlotGradients::exchange_elements(const ClipOptions& clip) const {
  return paramserver::exchange_elements(scratch_, cuts_, nodes_, clip);
}

SlotGradients::SlotGradients(bsp::World& world, const ParameterLayout& layout,
                             std::vector<std::int64_t> cuts, std::vector<ElementRange> buckets,
                             int num_slots, SlotDealing dealing)
    : world_(world),
      layout_(layout),
      cuts_(std::move(cuts)),
      buckets_(std::move(buckets)),
      num_slots_(num_slots),
      dealing_(dealing) {
  for (int rank = 0; rank < world.size(); ++rank) {
    nodes_.push_back(world.node_of(rank));
  }
  scratch_.assign(nodes_.size(), 0);
  if (dealing == SlotDealing::kStealing) {
    queue_.emplace(world);
  }
}

// Grows the gradient memory of all nodes when one of them needs more; the same decision on every
// rank.
void SlotGradients::ensure_memory(std::span<const std::int64_t> buffers) {
  const std::int64_t needed = most_per_node(buffers, nodes_);
  if (needed > num_buffers_) {
    memory_.reset();
    memory_.emplace(world_, needed * layout_.size());
    num_buffers_ = needed;
  }
}

void SlotGradients::place(std::vector<int> placement) {
  const auto slots = bsp::slots_of_ranks(placement, world_.size());
  const std::vector<std::int64_t> buffers = gradient_buffers(num_slots_, slots, dealing_);
  exchange_.reset();
  stack_.reset();
  ensure_memory(buffers);
  bases_.assign(static_cast<std::size_t>(world_.size()), nullptr);
  std::span<float> rest = memory_->span();
  std::span<float> own;
  for (const int rank : world_.ranks_at(bsp::Level::kNode)) {
    const std::int64_t length = buffers[static_cast<std::size_t>(rank)] * layout_.size();
    const std::span<float> part = rest.first(static_cast<std::size_t>(length));
    bases_[static_cast<std::size_t>(rank)] = part.data();
    own = rank == world_.rank() ? part : own;
    rest = rest.subspan(part.size());
  }
  placement_ = std::move(placement);
  const bool stealing = dealing_ == SlotDealing::kStealing;
  stack_ = std::make_unique<GradientStack>(own, layout_.size(), buckets_, num_slots_,
                                           slots[static_cast<std::size_t>(world_.rank())],
                                           stealing ? SlotOrder::kAny : SlotOrder::kAscending);
  if (stealing) {
    queue_->deal(placement_);
    planned_for_.clear();
    world_.sync();  // nobody claims before all have dealt
  } else {
    plan(placement_, {});
  }
}

void SlotGradients::plan(std::span<const int> computed_by, std::span<const int> buffer_of_slot) {
  const bsp::TreeReducePlan plan = bsp::plan_tree_reduce({.num_elements = layout_.size(),
                                                          .num_slots = num_slots_,
                                                          .placement = computed_by,
                                                          .node_of_rank = nodes_,
                                                          .cuts = cuts_,
                                                          .buffer_of_slot = buffer_of_slot,
                                                          .planning_rank = world_.rank()});
  scratch_ = exchange_scratch(plan);
  const auto rank = static_cast<std::size_t>(world_.rank());
  exchange_ = std::make_unique<TreeExchange>(world_, plan, bases_,
                                             ElementRange{cuts_[rank], cuts_[rank + 1]});
}

std::optional<int> SlotGradients::claim_slot() {
  if (queue_.has_value()) {
    return queue_->claim(stack_->has_room() ? StealingRoom::kThere : StealingRoom::kNone);
  }
  const int slot = stack_->next_slot();
  return slot < 0 ? std::nullopt : std::optional<int>(slot);
}

void SlotGradients::finish_compute(SlotBoard& board) {
  stack_->finish_step();
  if (!queue_.has_value()) {
    return;
  }
  queue_->require_own_taken();
  for (const GradientStack::Piece& piece : stack_->pieces()) {
    for (int slot = piece.range.begin; slot < piece.range.end; ++slot) {
      board.post_home(slot, {.rank = world_.rank(), .buffer = piece.buffer});
    }
  }
}

TreeExchange& SlotGradients::exchange(const SlotBoard& board) {
  if (!queue_.has_value()) {
    return *exchange_;
  }
  queue_->refill();
  const std::span<const SlotHome> homes = board.homes();
  if (!std::equal(planned_for_.begin(), planned_for_.end(), homes.begin(), homes.end())) {
    planned_for_.assign(homes.begin(), homes.end());
    std::vector<int> computed_by;
    std::vector<int> buffer_of_slot;
    for (const SlotHome home : homes) {
      computed_by.push_back(home.rank);
      buffer_of_slot.push_back(home.buffer);
    }
    plan(computed_by, buffer_of_slot);
  }
  return *exchange_;
}

}  // namespace superstep::paramserver
