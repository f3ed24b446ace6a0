// How a rank waits: spins briefly, then gives its core away, and never forgets the deadline.
//
// One Patience covers one operation. pause() is called between two looks at what is awaited; it
// throws PeerFailure when another lane failed and DeadlinePassed when the operation took too long.
//
//   Patience patience(policy, deadline);
//   while (!arrived()) {
//     if (patience.pause() == Pause::kSleep) sleep_or_futex();
//   }
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "bsp/failure.h"

namespace superstep::bsp::internal {

// Thrown by pause() and turned into a CommunicationError that names the missing ranks by the
// caller, who knows what was awaited.
struct DeadlinePassed {
  std::chrono::milliseconds waited;
  // Processes (of the transport) whose messages were still missing; empty when none was awaited.
  std::vector<int> silent_processes = {};
};

// kNeverExpires as deadline: wait for as long as it takes.
inline constexpr std::chrono::milliseconds kNeverExpires{-1};

// What a waiting leader does now and then; must be quick.
class IdleTask {
 public:
  IdleTask() = default;
  IdleTask(const IdleTask&) = delete;
  IdleTask& operator=(const IdleTask&) = delete;
  virtual ~IdleTask() = default;
  virtual void run_when_idle() = 0;
};

// The same for all waits of a process.
struct WaitPolicy {
  const Failure* failure = nullptr;  // must remain valid while any Patience lives
  bool oversubscribed = false;  // more ranks than cores: spinning steals time from those awaited
};

enum class Pause : std::uint8_t {
  kShort,  // spun or yielded: look again at once
  kSleep,  // waited long enough that sleeping for a moment costs little
};

class Patience {
 public:
  // `idle_task` may be null; like the policy it must outlive this object.
  Patience(const WaitPolicy& policy, std::chrono::milliseconds deadline,
           IdleTask* idle_task = nullptr)
      : policy_(policy), deadline_(deadline), idle_task_(idle_task) {}

  Pause pause();

  // How long a sleep after kSleep should last.
  static constexpr std::chrono::microseconds kNap{50};

 private:
  Pause pause_longer();

  const WaitPolicy& policy_;
  std::chrono::milliseconds deadline_;
  IdleTask* idle_task_;
  std::uint32_t rounds_ = 0;
  bool clock_started_ = false;
  bool sleepy_ = false;
  std::chrono::steady_clock::time_point begin_{};
};

// More ranks on this machine than cores that they may use?
bool is_oversubscribed(int lanes, int ranks_on_machine);

}  // namespace superstep::bsp::internal
