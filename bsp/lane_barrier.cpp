#include "bsp/lane_barrier.h"

#include <climits>
#include <ctime>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace superstep::bsp::internal {

namespace {

// Bounds how late a sleeper notices a failure or its deadline.
constexpr timespec kSlice{0, 2'000'000};

}  // namespace

void LaneBarrier::Word::sleep_while(std::uint32_t seen) {
  // Sequentially consistent with wake_all: either it sees the sleeper, or the kernel sees the new
  // value.
  sleepers.fetch_add(1);
  syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, seen, &kSlice, nullptr, 0);
  sleepers.fetch_sub(1);
}

void LaneBarrier::Word::wake_all() {
  if (sleepers.load() != 0) {
    syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
}

void LaneBarrier::await_followers(Patience& patience) {
  for (std::uint32_t seen = arrived_.value.load(std::memory_order_acquire); seen != followers_;
       seen = arrived_.value.load(std::memory_order_acquire)) {
    if (patience.pause() == Pause::kSleep) {
      arrived_.sleep_while(seen);
    }
  }
}

void LaneBarrier::release() {
  if (followers_ == 0) {
    return;
  }
  arrived_.value.store(0, std::memory_order_relaxed);  // nobody arrives again before the release
  generation_.value.fetch_add(1);
  generation_.wake_all();
}

void LaneBarrier::arrive_and_wait(Patience& patience) {
  const std::uint32_t generation = generation_.value.load(std::memory_order_relaxed);
  if (arrived_.value.fetch_add(1) + 1 == followers_) {
    arrived_.wake_all();
  }
  while (generation_.value.load(std::memory_order_acquire) == generation) {
    if (patience.pause() == Pause::kSleep) {
      generation_.sleep_while(generation);
    }
  }
}

}  // namespace superstep::bsp::internal
