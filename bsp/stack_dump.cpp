#include "bsp/stack_dump.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <fstream>
#include <string_view>

#include <execinfo.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace superstep::bsp::internal {

namespace {

constexpr int kMostFrames = 48;
// The handler itself and the system's frame that called it.
constexpr int kOwnFrames = 2;

// A signal reaches a thread, and what it says is about that thread.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local int dumped_rank = -1;

void write_all(std::string_view text) {
  // Best effort: there is nothing to do about a closed standard error.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

// Threads of ranks in this process, for signals that are sent to the process as a whole.
constexpr std::size_t kMostThreads = 1024;
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::array<std::atomic<pid_t>, kMostThreads> rank_threads{};
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<std::size_t> num_rank_threads{0};

void dump_this_thread() {
  std::array<char, 32> text{};
  constexpr std::string_view kBegin = "[rank ";
  char* end = std::copy(kBegin.begin(), kBegin.end(), text.data());
  end = std::to_chars(end, text.data() + text.size() - 9, dumped_rank).ptr;
  constexpr std::string_view kEnd = "] stack:\n";
  end = std::copy(kEnd.begin(), kEnd.end(), end);
  write_all({text.data(), static_cast<std::size_t>(end - text.data())});
  std::array<void*, kMostFrames> frames{};
  const int count = ::backtrace(frames.data(), kMostFrames);
  if (count > kOwnFrames) {
    ::backtrace_symbols_fd(frames.data() + kOwnFrames, count - kOwnFrames, STDERR_FILENO);
  }
}

extern "C" void on_stack_request(int, siginfo_t* info, void*) {
  const int saved_errno = errno;
  if (info->si_code == SI_TKILL) {
    dump_this_thread();
  } else {  // any thread of the process may have got it: the ranks are meant
    const std::size_t count = std::min(num_rank_threads.load(), kMostThreads);
    for (std::size_t i = 0; i < count; ++i) {
      request_stack(::getpid(), rank_threads[i].load());
    }
  }
  errno = saved_errno;
}

}  // namespace

void install_stack_dumps() {
  struct sigaction present {};
  if (::sigaction(SIGUSR2, nullptr, &present) != 0 || present.sa_handler != SIG_DFL) {
    return;
  }
  // The first backtrace loads a library, which a handler may not do.
  std::array<void*, 1> frame{};
  ::backtrace(frame.data(), 1);
  struct sigaction action {};
  action.sa_sigaction = on_stack_request;
  action.sa_flags = SA_RESTART | SA_SIGINFO | SA_ONSTACK;  // base/signal_stack.h says why
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGUSR2, &action, nullptr);
}

void set_dumped_rank(int rank) {
  if (dumped_rank < 0) {
    const std::size_t index = num_rank_threads.fetch_add(1);
    if (index < kMostThreads) {
      rank_threads[index].store(this_thread());
    }
  }
  dumped_rank = rank;
}

bool request_stack(pid_t process, pid_t thread) noexcept {
  return process > 0 && thread > 0 && ::syscall(SYS_tgkill, process, thread, SIGUSR2) == 0;
}

std::string system_state(pid_t process, pid_t thread) {
  std::ifstream file(fmt::format("/proc/{}/task/{}/stat", process, thread));
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(") ");
  if (name_end == std::string::npos || name_end + 2 >= text.size()) {
    return {};
  }
  switch (text[name_end + 2]) {
    case 'R':
      return "running";
    case 'S':
      return "sleeping";
    case 'D':
      return "waits in the kernel (disk or network)";
    case 'T':
      return "stopped by a signal";
    case 't':
      return "stopped by a debugger";
    case 'Z':
    case 'X':
      return "dead";
    default:
      return {};
  }
}

pid_t this_thread() {
  return ::gettid();
}

}  // namespace superstep::bsp::internal
