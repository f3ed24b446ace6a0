#include "paramserver/slot_queue.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/check.h"
#include "bsp/tree_reduce.h"

namespace superstep::paramserver {

namespace {

// A slot's time follows changes of a rank's speed within a few slots.
constexpr double kNewest = 0.3;
// How long a rank that leaves slots to others waits between two looks at them.
constexpr std::chrono::microseconds kNap{20};
// And for how many of its own slots' times it does so at the most.
constexpr double kMostPatience = 4.0;

struct Left {
  std::uint32_t first = 0;
  std::uint32_t end = 0;
};
std::uint64_t pack(Left left) {
  return std::uint64_t{left.end} << 32 | left.first;
}
Left unpack(std::uint64_t word) {
  return {.first = static_cast<std::uint32_t>(word), .end = static_cast<std::uint32_t>(word >> 32)};
}
std::int64_t count_of(Left left) {
  return std::int64_t{left.end} - std::int64_t{left.first};
}

template <typename T>
std::atomic_ref<T> atomic(T& value) {
  return std::atomic_ref<T>(value);
}

}  // namespace

SlotQueue::SlotQueue(bsp::World& world)
    : world_(world),
      ranks_(world.ranks_at(bsp::Level::kNode).begin(), world.ranks_at(bsp::Level::kNode).end()),
      self_(static_cast<std::size_t>(std::find(ranks_.begin(), ranks_.end(), world.rank()) -
                                     ranks_.begin())),
      desks_(world, static_cast<std::int64_t>(ranks_.size())) {}

void SlotQueue::deal(std::span<const int> placement) {
  const std::vector<std::vector<int>> all = bsp::slots_of_ranks(placement, world_.size());
  slots_.clear();
  for (const int rank : ranks_) {
    slots_.push_back(all[static_cast<std::size_t>(rank)]);
  }
  refill();
}

void SlotQueue::refill() {
  const Left all{.first = 0, .end = static_cast<std::uint32_t>(slots_[self_].size())};
  atomic(desk(self_).left).store(pack(all));
  atomic(desk(self_).is_done).store(0);
  slot_in_work_.reset();
}

void SlotQueue::require_own_taken() const {
  const std::int64_t left = count_of(unpack(atomic(desk(self_).left).load()));
  SUPERSTEP_CHECK(left == 0, "slots that nobody claimed", left);
}

std::int64_t SlotQueue::num_left() const {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    count += count_of(unpack(atomic(desk(i).left).load()));
  }
  return count;
}

// A faster rank that is still at work gets through all that is left, half of what it has in work
// included, before this rank would get through one slot.
bool SlotQueue::better_left_to_others(std::int64_t num_left) const {
  const double mine = atomic(desk(self_).slot_seconds).load();
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    const double theirs = atomic(desk(i).slot_seconds).load();
    const bool at_work = i != self_ && theirs > 0.0 && atomic(desk(i).is_done).load() == 0;
    if (at_work && mine > (static_cast<double>(num_left) + 0.5) * theirs) {
      return true;
    }
  }
  return false;
}

// The owner's first slot for itself, its last one for others.
bool SlotQueue::take(std::size_t owner, int* slot) {
  std::atomic_ref<std::uint64_t> word(desk(owner).left);
  std::uint64_t seen = word.load();
  while (true) {
    const Left left = unpack(seen);
    if (count_of(left) <= 0) {
      return false;
    }
    const bool own = owner == self_;
    const Left rest{.first = left.first + (own ? 1 : 0), .end = left.end - (own ? 0 : 1)};
    if (word.compare_exchange_weak(seen, pack(rest))) {
      *slot = slots_[owner][own ? left.first : rest.end];
      return true;
    }
  }
}

std::optional<int> SlotQueue::take_own_or_steal(StealingRoom room) {
  int slot = 0;
  if (take(self_, &slot)) {
    return slot;
  }
  while (room == StealingRoom::kThere) {
    std::size_t richest = 0;
    std::int64_t most = 0;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      const std::int64_t count = count_of(unpack(atomic(desk(i).left).load()));
      richest = count > most ? i : richest;
      most = std::max(most, count);
    }
    if (most == 0) {
      return std::nullopt;
    }
    if (take(richest, &slot)) {
      return slot;
    }
  }
  return std::nullopt;
}

void SlotQueue::note_time() {
  if (!slot_in_work_.has_value()) {
    return;
  }
  const double newest = slot_in_work_->seconds();
  std::atomic_ref<double> known(desk(self_).slot_seconds);
  const double before = known.load();
  known.store(before == 0.0 ? newest : (1.0 - kNewest) * before + kNewest * newest);
  slot_in_work_.reset();
}

std::optional<int> SlotQueue::claim(StealingRoom room) {
  note_time();
  const Stopwatch waiting;
  const double patience = kMostPatience * atomic(desk(self_).slot_seconds).load();
  for (std::int64_t left = num_left(); left > 0; left = num_left()) {
    if (better_left_to_others(left) && waiting.seconds() < patience) {
      std::this_thread::sleep_for(kNap);
      continue;
    }
    const std::optional<int> slot = take_own_or_steal(room);
    if (!slot.has_value()) {
      break;
    }
    slot_in_work_.emplace();
    return slot;
  }
  atomic(desk(self_).is_done).store(1);
  return std::nullopt;
}

}  // namespace superstep::paramserver
