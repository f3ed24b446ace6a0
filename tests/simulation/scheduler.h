// Runs the threads of a job one at a time, in an order that a seed decides.
//
// A thread of the simulated job is a task: a stack of its own on the one thread that there is.
// Tasks give the processor away at schedule points only (system calls that wait, read the clock or
// touch the disk; tests/simulation/system_*.cpp), and the scheduler draws who goes on. The same
// seed gives the same order on every machine. Time is simulated, too: it passes at schedule points
// and in sleeps.
//
//   Scheduler scheduler(seed);
//   Scheduler::End end = scheduler.run([] { ... starts threads, joins them ... }, interruption);
//
// A job that is interrupted is abandoned as it stands: nothing is unwound, no destructor runs, what
// its tasks had allocated is lost. That is what the death of a process is, and why a program runs
// some tens of seeds only and then ends (tests/simulation/seeds.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include <ucontext.h>

#include "base/philox.h"

namespace superstep::simulation {

inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// When a job dies. Points and calls are counted from 1; of the disk are counted those calls alone
// that change it.
struct Interruption {
  std::int64_t at_point = kNever;      // every rank dies at this schedule point
  std::int64_t at_disk_call = kNever;  // ... or just before this call
  // The rank that gets there dies first; the others go on for so many schedule points.
  std::int64_t others_live_on = 0;
};

class Scheduler {
 public:
  enum class End : std::uint8_t {
    kFinished,
    kKilled,  // interrupted, or ended itself by _Exit
    kStuck,   // no end in sight
  };

  explicit Scheduler(std::uint64_t seed);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;
  ~Scheduler();

  // `body` is the first task.
  End run(std::function<void()> body, const Interruption& interruption);
  std::int64_t num_points() const { return num_points_; }
  std::int64_t num_disk_calls() const { return num_disk_calls_; }
  int exit_code() const { return exit_code_; }  // of _Exit

  bool in_task() const { return current_ != nullptr; }

  // --- for tasks ---
  std::uint64_t spawn(std::function<void()> body);
  bool has_ended(std::uint64_t task) const;
  // A schedule point. wait(): whoever calls has nothing to do until somebody else has moved.
  void step();
  void wait();
  void before_disk_call();
  // The calling task, and what it spawns from now on, belong to this rank: they die together.
  void become_rank(int rank);
  void exit_job(int exit_code);

  std::chrono::nanoseconds now() const { return now_; }
  void sleep(std::chrono::nanoseconds duration);
  PhiloxStream& random() { return random_; }

 private:
  struct Task;
  class Stack;

  static void enter_task(unsigned high, unsigned low);
  void switch_away();
  void resume(Task& task);
  Task* choose();
  void interrupt();
  std::unique_ptr<Stack> take_stack();

  PhiloxStream random_;
  std::vector<std::unique_ptr<Task>> tasks_;
  std::vector<std::unique_ptr<Stack>> free_stacks_;
  std::vector<double> weights_;
  Task* current_ = nullptr;
  ucontext_t scheduler_context_{};
  Interruption interruption_;
  std::optional<std::int64_t> all_die_at_;  // once a rank has died
  std::optional<End> end_;
  std::int64_t num_points_ = 0;
  std::int64_t num_disk_calls_ = 0;
  int exit_code_ = 0;
  std::chrono::nanoseconds now_;
};

}  // namespace superstep::simulation
