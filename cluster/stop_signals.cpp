#include "cluster/stop_signals.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>

#include <unistd.h>

#include "worker/stop_request.h"

namespace superstep::cluster {

namespace {

constexpr std::size_t kMaxNotice = 4000;

struct Notice {
  std::array<char, kMaxNotice> text{};
  std::size_t length = 0;
};

// A handler may only read what no thread is writing: the setter fills the notice that was not the
// last to be published and publishes it, and changes nothing while a handler is at work (which may
// take its time, when nobody reads standard error). Signals belong to the process, and so does what
// their handler says.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::array<Notice, 2> notices;
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<const Notice*> published{nullptr};
static_assert(std::atomic<const Notice*>::is_always_lock_free);
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<int> handlers_at_work{0};

extern "C" void on_stop_signal(int signal) {
  const int saved_errno = errno;
  ++handlers_at_work;
  worker::request_stop();
  if (const Notice* notice = published.exchange(nullptr); notice != nullptr) {
    // Best effort: there is nothing to do about a closed standard error.
    [[maybe_unused]] const ssize_t written =
        ::write(STDERR_FILENO, notice->text.data(), notice->length);
  }
  if (signal == SIGINT) {
    ::signal(SIGINT, SIG_DFL);
  }
  --handlers_at_work;
  errno = saved_errno;
}

// A signal that whoever started the program has ignored (nohup, a background job) stays ignored.
bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

void handle(int signal) {
  if (is_ignored(signal)) {
    return;
  }
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;  // base/signal_stack.h says why
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

}  // namespace

void install_stop_signals(HandleInterrupt interrupt) {
  handle(SIGTERM);
  handle(SIGUSR1);
  if (interrupt == HandleInterrupt::kYes) {
    handle(SIGINT);
  }
}

void set_stop_notice(std::string_view notice) {
  if (notice.empty()) {
    published.store(nullptr);
    return;
  }
  if (handlers_at_work.load() != 0) {
    return;
  }
  static std::size_t last = 0;
  last = 1 - last;
  Notice& next =
      notices[last];  // NOLINT(cppcoreguidelines-pro-bounds-constant-array-index): 0 or 1
  next.length = std::min(notice.size(), kMaxNotice - 1);
  std::copy_n(notice.data(), next.length, next.text.begin());
  next.text[next.length++] = '\n';
  published.store(&next);
}

}  // namespace superstep::cluster
