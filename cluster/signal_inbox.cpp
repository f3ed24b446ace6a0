#include "cluster/signal_inbox.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "cluster/launch_text.h"

namespace superstep::cluster {

using std::chrono::milliseconds;

namespace {

bool is_inherited_as_ignored(int signal) {
  struct sigaction action {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

sigset_t inbox_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kStopSignals) {
    if (!is_inherited_as_ignored(signal)) {
      sigaddset(&set, signal);
    }
  }
  sigaddset(&set, SIGCHLD);
  return set;
}

bool is_stop(int signal) {
  return std::find(kStopSignals.begin(), kStopSignals.end(), signal) != kStopSignals.end();
}

SignalInbox::SignalInbox() {
  std::signal(SIGCHLD, SIG_DFL);
  const sigset_t set = inbox_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  file_ = internal::FileDescriptor(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!file_.is_open()) {
    throw InvalidArgument(kLaunch, fmt::format("cannot listen for signals: {}",
                                               std::generic_category().message(errno)));
  }
}

SignalInbox::~SignalInbox() {
  const sigset_t set = inbox_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

std::optional<int> SignalInbox::next() {
  signalfd_siginfo info{};
  if (::read(file_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
    return std::nullopt;
  }
  return static_cast<int>(info.ssi_signo);
}

bool SignalInbox::stopped_within(milliseconds duration) {
  const Stopwatch watch;
  while (true) {
    while (const std::optional<int> signal = next()) {
      if (is_stop(*signal)) {
        return true;
      }
    }
    const auto left = std::chrono::duration_cast<milliseconds>(duration - watch.elapsed());
    if (left.count() <= 0) {
      return false;
    }
    pollfd file{file_.get(), POLLIN, 0};
    ::poll(&file, 1, static_cast<int>(left.count()));
  }
}

}  // namespace superstep::cluster
