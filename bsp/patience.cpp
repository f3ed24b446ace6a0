#include "bsp/patience.h"

#include <thread>

#include <immintrin.h>
#include <sched.h>
#include <unistd.h>

namespace superstep::bsp::internal {

namespace {

// About 5 microseconds of pause instructions: a barrier between awake lanes takes less.
constexpr std::uint32_t kSpinRounds = 200;
// The clock and the failure flag are read once per this many yields.
constexpr std::uint32_t kCheckInterval = 16;
// A wait this long is a wait for computation, not for communication.
constexpr std::chrono::microseconds kSleepAfterOversubscribed{500};
constexpr std::chrono::milliseconds kSleepAfter{20};

}  // namespace

Pause Patience::pause() {
  ++rounds_;
  if (rounds_ <= kSpinRounds && !policy_.oversubscribed) {
    _mm_pause();
    return Pause::kShort;
  }
  return pause_longer();
}

Pause Patience::pause_longer() {
  if (sleepy_ || rounds_ % kCheckInterval == 0) {
    if (policy_.failure->raised()) {
      policy_.failure->throw_peer_failure();
    }
    const auto now = std::chrono::steady_clock::now();
    if (!clock_started_) {
      clock_started_ = true;
      begin_ = now;
    }
    const auto waited = now - begin_;
    if (deadline_ != kNeverExpires && waited > deadline_) {
      throw DeadlinePassed{.waited = std::chrono::duration_cast<std::chrono::milliseconds>(waited)};
    }
    sleepy_ = waited > (policy_.oversubscribed ? kSleepAfterOversubscribed : kSleepAfter);
  }
  if (sleepy_) {
    if (idle_task_ != nullptr) {
      idle_task_->run_when_idle();
    }
    return Pause::kSleep;
  }
  sched_yield();
  return Pause::kShort;
}

bool is_oversubscribed(int lanes, int ranks_on_machine) {
  const int usable = static_cast<int>(std::thread::hardware_concurrency());  // respects binding
  const auto online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return lanes > usable || ranks_on_machine > online;
}

}  // namespace superstep::bsp::internal
