#include "tests/simulation/scheduler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <system_error>
#include <utility>

#include <cxxabi.h>
#include <sys/mman.h>

#include "base/check.h"

namespace superstep::simulation {

namespace {

// Enough for Eigen's and oneDNN's products, untouched pages cost nothing.
constexpr std::size_t kStackBytes = std::size_t{2} << 20;
constexpr std::size_t kGuardBytes = 4096;
// Tens of times what the longest job takes.
constexpr std::int64_t kMostPoints = 5'000'000;
// A task that waits is asked less often than one that has work; it is asked, since nobody tells
// when what it waits for has come.
constexpr double kWaitingWeight = 0.125;
// Some tasks are much slower than others: interleavings that a fair scheduler hardly ever takes.
constexpr std::array<double, 4> kSpeeds = {1.0, 1.0, 0.1, 10.0};
constexpr std::uint64_t kMostNanosecondsPerPoint = 20'000;
constexpr std::chrono::nanoseconds kStart = std::chrono::hours(1);

// What the C++ runtime keeps per thread about exceptions in flight (Itanium C++ ABI, 2.2.2): tasks
// that switch between a throw and the end of its handler must not see each other's.
struct ExceptionGlobals {
  void* caught = nullptr;
  unsigned int num_uncaught = 0;
};

void swap_exception_globals(ExceptionGlobals& other) {
  auto* mine = reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals());
  std::swap(*mine, other);
}

}  // namespace

class Scheduler::Stack {
 public:
  Stack()
      : memory_(::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0)) {
    if (memory_ == MAP_FAILED || ::mprotect(memory_, kGuardBytes, PROT_NONE) != 0) {
      throw std::system_error(errno, std::generic_category(), "stack of a task");
    }
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  ~Stack() { ::munmap(memory_, kStackBytes); }
  void* memory() const { return memory_; }

 private:
  void* memory_;
};

struct Scheduler::Task {
  Scheduler* scheduler = nullptr;
  std::function<void()> body;
  std::unique_ptr<Stack> stack;
  ucontext_t context{};
  ExceptionGlobals exceptions;
  double speed = 1.0;
  int rank = -1;
  bool is_waiting = false;
  bool is_dead = false;
  bool has_ended = false;
};

Scheduler::Scheduler(std::uint64_t seed)
    : random_(seed, stream_id("simulation/schedule")), now_(kStart) {}
Scheduler::~Scheduler() = default;

std::unique_ptr<Scheduler::Stack> Scheduler::take_stack() {
  if (free_stacks_.empty()) {
    return std::make_unique<Stack>();
  }
  std::unique_ptr<Stack> stack = std::move(free_stacks_.back());
  free_stacks_.pop_back();
  return stack;
}

// makecontext passes integers only.
void Scheduler::enter_task(unsigned high, unsigned low) {
  auto* task = std::bit_cast<Task*>(std::uintptr_t{high} << 32 | low);
  task->body();
  task->has_ended = true;
  task->scheduler->switch_away();
}

std::uint64_t Scheduler::spawn(std::function<void()> body) {
  auto task = std::make_unique<Task>();
  task->scheduler = this;
  task->body = std::move(body);
  task->stack = take_stack();
  task->speed = kSpeeds[random_.below(kSpeeds.size())];
  task->rank = current_ == nullptr ? -1 : current_->rank;
  ::getcontext(&task->context);
  task->context.uc_stack.ss_sp = task->stack->memory();
  task->context.uc_stack.ss_size = kStackBytes;
  const auto address = reinterpret_cast<std::uintptr_t>(task.get());
  ::makecontext(&task->context, reinterpret_cast<void (*)()>(&Scheduler::enter_task), 2,
                static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
  tasks_.push_back(std::move(task));
  return tasks_.size() - 1;
}

Scheduler::End Scheduler::run(std::function<void()> body, const Interruption& interruption) {
  SUPERSTEP_CHECK(current_ == nullptr && tasks_.empty(), "one job at a time");
  interruption_ = interruption;
  all_die_at_.reset();
  end_.reset();
  num_points_ = 0;
  num_disk_calls_ = 0;
  exit_code_ = 0;
  spawn(std::move(body));
  while (!end_.has_value()) {
    if (Task* next = choose(); next != nullptr) {
      resume(*next);
    } else {
      end_ = tasks_.front()->has_ended ? End::kFinished : End::kKilled;
    }
  }
  for (std::unique_ptr<Task>& task : tasks_) {
    if (task->stack != nullptr) {
      free_stacks_.push_back(std::move(task->stack));
    }
  }
  tasks_.clear();
  return *end_;
}

Scheduler::Task* Scheduler::choose() {
  weights_.clear();
  double total = 0.0;
  for (const std::unique_ptr<Task>& task : tasks_) {
    const bool can_run = !task->has_ended && !task->is_dead;
    weights_.push_back(can_run ? task->speed * (task->is_waiting ? kWaitingWeight : 1.0) : 0.0);
    total += weights_.back();
  }
  if (total == 0.0) {
    return nullptr;
  }
  double rest = random_.uniform_double() * total;
  Task* chosen = nullptr;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] > 0.0) {
      chosen = tasks_[i].get();
      if (rest < weights_[i]) {
        break;
      }
      rest -= weights_[i];
    }
  }
  return chosen;
}

void Scheduler::resume(Task& task) {
  current_ = &task;
  swap_exception_globals(task.exceptions);
  ::swapcontext(&scheduler_context_, &task.context);
  swap_exception_globals(task.exceptions);
  current_ = nullptr;
  if (task.has_ended) {
    free_stacks_.push_back(std::move(task.stack));
  }
}

void Scheduler::switch_away() {
  const int saved_errno = errno;
  Task& task = *current_;
  ::swapcontext(&task.context, &scheduler_context_);
  errno = saved_errno;
}

// The rank of the current task dies; all do when nothing is left of the others' time.
void Scheduler::interrupt() {
  if (interruption_.others_live_on <= 0 || current_->rank < 0) {
    end_ = End::kKilled;
    return;
  }
  all_die_at_ = num_points_ + interruption_.others_live_on;
  for (const std::unique_ptr<Task>& task : tasks_) {
    task->is_dead = task->is_dead || task->rank == current_->rank;
  }
}

void Scheduler::step() {
  ++num_points_;
  now_ += std::chrono::nanoseconds(1 + random_.below(kMostNanosecondsPerPoint));
  if (num_points_ == interruption_.at_point) {
    interrupt();
  }
  if (all_die_at_.has_value() && num_points_ >= *all_die_at_) {
    end_ = End::kKilled;
  }
  if (num_points_ >= kMostPoints) {
    end_ = End::kStuck;
  }
  switch_away();
}

void Scheduler::wait() {
  Task& task = *current_;
  task.is_waiting = true;
  step();
  task.is_waiting = false;
}

void Scheduler::before_disk_call() {
  if (++num_disk_calls_ == interruption_.at_disk_call) {
    interrupt();
  }
  step();
}

void Scheduler::become_rank(int rank) {
  current_->rank = rank;
}

void Scheduler::exit_job(int exit_code) {
  exit_code_ = exit_code;
  end_ = End::kKilled;
  switch_away();
}

bool Scheduler::has_ended(std::uint64_t task) const {
  return tasks_[task]->has_ended;
}

void Scheduler::sleep(std::chrono::nanoseconds duration) {
  now_ += duration;
  wait();
}

}  // namespace superstep::simulation
