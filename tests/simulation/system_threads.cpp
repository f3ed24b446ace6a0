// The system calls that start threads, wait and tell the time, for tasks of a simulation. Whoever
// is none gets the system's own.

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "tests/simulation/real_function.h"
#include "tests/simulation/simulation.h"

namespace {

using superstep::simulation::RealFunction;
using superstep::simulation::Scheduler;
using superstep::simulation::Simulation;

// No address of a thread of the system is as small.
constexpr pthread_t kFirstTask = 1;

// Null: the caller is no task.
Scheduler* scheduler_of_task() {
  Simulation* simulation = Simulation::current();
  return simulation != nullptr && simulation->scheduler().in_task() ? &simulation->scheduler()
                                                                    : nullptr;
}

std::chrono::nanoseconds to_duration(const timespec& time) {
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

timespec to_timespec(std::chrono::nanoseconds time) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
  return {.tv_sec = seconds.count(), .tv_nsec = (time - seconds).count()};
}

// A condition variable may wake whoever waits on it at any time: this one does nothing else.
int wait_on_condition(Scheduler& scheduler, pthread_mutex_t* mutex, const timespec* until) {
  pthread_mutex_unlock(mutex);
  scheduler.wait();
  pthread_mutex_lock(mutex);
  return until != nullptr && scheduler.now() >= to_duration(*until) ? ETIMEDOUT : 0;
}

}  // namespace

extern "C" {

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) noexcept {
  static const RealFunction<decltype(pthread_create)> real("pthread_create");
  Scheduler* scheduler = scheduler_of_task();
  if (scheduler == nullptr) {
    return real(thread, attributes, start, argument);
  }
  *thread = kFirstTask + scheduler->spawn([start, argument] { start(argument); });
  scheduler->step();
  return 0;
}

int pthread_join(pthread_t thread, void** result) {
  static const RealFunction<decltype(pthread_join)> real("pthread_join");
  Scheduler* scheduler = scheduler_of_task();
  if (scheduler == nullptr) {
    return real(thread, result);
  }
  while (!scheduler->has_ended(thread - kFirstTask)) {
    scheduler->wait();
  }
  return 0;
}

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  static const RealFunction<decltype(pthread_mutex_lock)> real("pthread_mutex_lock");
  Scheduler* scheduler = scheduler_of_task();
  if (scheduler == nullptr) {
    return real(mutex);
  }
  int status = pthread_mutex_trylock(mutex);
  while (status == EBUSY) {
    scheduler->wait();
    status = pthread_mutex_trylock(mutex);
  }
  return status;
}

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  static const RealFunction<decltype(pthread_cond_wait)> real("pthread_cond_wait");
  Scheduler* scheduler = scheduler_of_task();
  return scheduler == nullptr ? real(condition, mutex)
                              : wait_on_condition(*scheduler, mutex, nullptr);
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const timespec* until) {
  static const RealFunction<decltype(pthread_cond_timedwait)> real("pthread_cond_timedwait");
  Scheduler* scheduler = scheduler_of_task();
  return scheduler == nullptr ? real(condition, mutex, until)
                              : wait_on_condition(*scheduler, mutex, until);
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* until) {
  static const RealFunction<decltype(pthread_cond_clockwait)> real("pthread_cond_clockwait");
  Scheduler* scheduler = scheduler_of_task();
  return scheduler == nullptr ? real(condition, mutex, clock, until)
                              : wait_on_condition(*scheduler, mutex, until);
}

int sched_yield() noexcept {
  static const RealFunction<decltype(sched_yield)> real("sched_yield");
  Scheduler* scheduler = scheduler_of_task();
  if (scheduler == nullptr) {
    return real();
  }
  scheduler->wait();
  return 0;
}

int nanosleep(const timespec* duration, timespec* rest) {
  static const RealFunction<decltype(nanosleep)> real("nanosleep");
  Scheduler* scheduler = scheduler_of_task();
  if (scheduler == nullptr) {
    return real(duration, rest);
  }
  scheduler->sleep(to_duration(*duration));
  return 0;
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const RealFunction<decltype(clock_gettime)> real("clock_gettime");
  Scheduler* scheduler = scheduler_of_task();
  if (scheduler == nullptr) {
    return real(clock, time);
  }
  scheduler->step();
  *time = to_timespec(scheduler->now());
  return 0;
}

// Of all system calls only waiting for a word of memory is another one here.
long syscall(long number, ...) noexcept {
  static const RealFunction<decltype(syscall)> real("syscall");
  va_list list;
  va_start(list, number);
  long arguments[6];
  for (long& argument : arguments) {
    argument = va_arg(list, long);
  }
  va_end(list);
  Scheduler* scheduler = number == SYS_futex ? scheduler_of_task() : nullptr;
  if (scheduler == nullptr) {
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
  }
  const auto* word = std::bit_cast<const std::uint32_t*>(arguments[0]);
  const long operation = arguments[1] & FUTEX_CMD_MASK;
  if (operation != FUTEX_WAIT && operation != FUTEX_WAIT_BITSET) {
    return 0;  // nobody sleeps whom it could wake
  }
  if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != static_cast<std::uint32_t>(arguments[2])) {
    errno = EAGAIN;
    return -1;
  }
  scheduler->wait();
  return 0;
}

// Everybody shares one processor, on every machine.
int get_nprocs() noexcept {
  static const RealFunction<decltype(get_nprocs)> real("get_nprocs");
  return scheduler_of_task() == nullptr ? real() : 1;
}

long sysconf(int name) noexcept {
  static const RealFunction<decltype(sysconf)> real("sysconf");
  return name == _SC_NPROCESSORS_ONLN && scheduler_of_task() != nullptr ? 1 : real(name);
}

ssize_t getrandom(void* bytes, size_t count, unsigned flags) {
  static const RealFunction<decltype(getrandom)> real("getrandom");
  Scheduler* scheduler = scheduler_of_task();
  if (scheduler == nullptr) {
    return real(bytes, count, flags);
  }
  for (size_t i = 0; i < count; ++i) {
    static_cast<unsigned char*>(bytes)[i] =
        static_cast<unsigned char>(scheduler->random().bits32());
  }
  return static_cast<ssize_t>(count);
}

void _Exit(int exit_code) noexcept {
  if (Scheduler* scheduler = scheduler_of_task(); scheduler != nullptr) {
    scheduler->exit_job(exit_code);
  }
  ::_exit(exit_code);
}

}  // extern "C"
