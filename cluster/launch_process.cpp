#include "cluster/launch_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "cluster/launch_policy.h"
#include "cluster/launch_text.h"
#include "cluster/process_table.h"

namespace superstep::cluster {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLook{200};          // between two looks at the deadlines
constexpr milliseconds kOrphanGrace{3000};  // ranks end by themselves when they lose mpirun
constexpr milliseconds kOrphanLimit{10'000};

[[noreturn]] void fail(const std::string& what) {
  const int error = errno;
  throw InvalidArgument(kLaunch,
                        fmt::format("{}: {}", what, std::generic_category().message(error)));
}

// In the child: everything a program may expect to find, then mpirun. Only async-signal-safe calls.
[[noreturn]] void become(char* const* arguments, int error_pipe, int failure_pipe) {
  const sigset_t set = inbox_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_DFL);  // ignored by the launcher alone
  ::signal(SIGUSR1, SIG_DFL);  // the launcher's own word to the ranks
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(error_pipe, STDERR_FILENO);
  ::execvp(arguments[0], arguments);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(failure_pipe, &error, sizeof error);
  ::_exit(127);
}

// Of mpirun's standard error to our own. What cannot be written is lost.
void pass_on(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      fail("cannot make a pipe");
    }
    reader = internal::FileDescriptor(ends[0]);
    writer = internal::FileDescriptor(ends[1]);
  }
  internal::FileDescriptor reader;
  internal::FileDescriptor writer;
};

// Children of this process, adopted ones included.
std::vector<pid_t> children() {
  std::vector<pid_t> pids = all_processes();
  std::erase_if(pids, [](pid_t pid) {
    const std::optional<RunningProcess> process = find_running(pid);
    return !process || process->parent != ::getpid();
  });
  return pids;
}

class Supervision {
 public:
  Supervision(SignalInbox& signals, Caretaker& caretaker, const ProcessLimits& limits,
              const HangCheck& hangs)
      : signals_(signals), caretaker_(caretaker), limits_(limits), hangs_(hangs) {}

  ProcessEnd run(const std::vector<std::string>& command) {
    start(command);
    while (!ended_) {
      look();
      enforce();
    }
    end_orphans();
    while (show()) {
    }
    pass_on(end_.diagnosis.finish());
    return std::move(end_);
  }

 private:
  void start(const std::vector<std::string>& command) {
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const std::string& word : command) {
      arguments.push_back(const_cast<char*>(word.c_str()));  // execvp takes it so
    }
    arguments.push_back(nullptr);
    Pipe error_pipe;
    Pipe failure_pipe;
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    end_.pid = ::fork();
    if (end_.pid < 0) {
      fail("cannot start a process");
    }
    if (end_.pid == 0) {
      become(arguments.data(), error_pipe.writer.get(), failure_pipe.writer.get());
    }
    caretaker_.watch(end_.pid, std::nullopt);
    errors_ = std::move(error_pipe.reader);
    ::fcntl(errors_.get(), F_SETFL, O_NONBLOCK);
    error_pipe.writer.reset();
    failure_pipe.writer.reset();
    int error = 0;
    if (::read(failure_pipe.reader.get(), &error, sizeof error) == sizeof error) {
      ::waitpid(end_.pid, nullptr, 0);
      errno = error;
      fail(fmt::format("cannot start \"{}\"", command.front()));
    }
  }

  // Waits for news from mpirun or for a signal.
  void look() {
    std::array<pollfd, 2> files = {pollfd{errors_.get(), POLLIN, 0},
                                   pollfd{signals_.descriptor(), POLLIN, 0}};
    ::poll(files.data(), files.size(), static_cast<int>(kLook.count()));
    while (show()) {
    }
    while (const std::optional<int> signal = signals_.next()) {
      if (is_stop(*signal)) {
        on_stop(*signal);
      }
    }
    reap();
  }

  // Passes on a piece of standard error; false when there is none now.
  bool show() {
    std::array<char, 4096> bytes{};
    const ssize_t count = errors_.is_open() ? ::read(errors_.get(), bytes.data(), bytes.size()) : 0;
    if (count > 0) {
      pass_on(end_.diagnosis.feed({bytes.data(), static_cast<std::size_t>(count)}));
      if (!caretaker_knows_job_ && end_.diagnosis.daemon_job()) {
        caretaker_knows_job_ = true;
        caretaker_.watch(end_.pid, end_.diagnosis.daemon_job());
      }
      return true;
    }
    if (count == 0) {
      errors_.reset();
    }
    return false;
  }

  void on_stop(int signal) {
    if (!end_.stop_requested) {
      end_.stop_requested = true;
      since_stop_.restart();
      ask_to_stop();  // first of all: nobody may read what is said
      say(
          fmt::format("signal {} came: every rank writes a checkpoint at the same superstep, for "
                      "at most {}; a second signal kills the job",
                      signal, format_duration(limits_.grace)));
    } else if (since_stop_.elapsed() > kLook) {  // one Ctrl-C may reach us twice
      terminate();
      say("a second signal came: the job is killed");
    }
  }

  void ask_to_stop() {
    ::kill(end_.pid, SIGUSR1);
    since_asked_.restart();
  }

  // What comes before mpirun has ranks to pass it on to is lost.
  void ask_again() {
    constexpr milliseconds kBetweenAsking{1000};
    if (end_.stop_requested && !terminated_ && since_asked_.elapsed() > kBetweenAsking) {
      ask_to_stop();
    }
  }

  void terminate() {
    if (!terminated_) {
      terminated_ = true;
      end_.killed = true;
      since_termination_.restart();
      ::kill(end_.pid, SIGTERM);
    }
  }

  void check_for_hang() {
    constexpr milliseconds kBetweenChecks{1000};
    constexpr milliseconds kTimeForStacks{500};
    if (ended_ || terminated_ || end_.hung || since_check_.elapsed() < kBetweenChecks) {
      return;
    }
    since_check_.restart();
    if (const std::optional<std::string> why = hangs_()) {
      end_.hung = true;
      say(fmt::format("the job does not move: {}", *why));
      ::kill(end_.pid, SIGUSR2);  // mpirun passes it on
      ::poll(nullptr, 0, static_cast<int>(kTimeForStacks.count()));
      terminate();
    }
  }

  void enforce() {
    check_for_hang();
    if (ended_) {
      return;
    }
    ask_again();
    if (end_.stop_requested && !terminated_ && since_stop_.elapsed() > limits_.grace) {
      say(fmt::format("the ranks did not end within {}: the job is killed",
                      format_duration(limits_.grace)));
      terminate();
    }
    if (end_.diagnosis.named() && !failure_seen_) {
      failure_seen_ = true;
      since_failure_.restart();
    }
    const bool hangs = (terminated_ && since_termination_.elapsed() > limits_.kill_after) ||
                       (failure_seen_ && since_failure_.elapsed() > limits_.kill_after);
    if (hangs && !hard_killed_) {
      hard_killed_ = true;
      end_.killed = true;
      say(fmt::format("mpirun does not end: it is killed (process {})", end_.pid));
      ::kill(end_.pid, SIGKILL);
    }
  }

  void reap() {
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0;
         pid = ::waitpid(-1, &status, WNOHANG)) {
      if (pid == end_.pid) {
        ended_ = true;
        end_.exit_code = WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status);
      }
    }
  }

  // What mpirun left behind: has a moment to end by itself, then it is killed, children of killed
  // ones included (they become ours).
  void end_orphans() {
    const Stopwatch watch;
    for (std::vector<pid_t> left = children(); !left.empty(); left = children()) {
      if (watch.elapsed() > kOrphanLimit) {
        say(fmt::format("{} processes cannot be killed", left.size()));
        return;
      }
      const bool by_force = watch.elapsed() > kOrphanGrace || end_.killed;
      for (const pid_t pid : left) {
        if (by_force && ::kill(pid, SIGKILL) == 0) {
          killed_.push_back(pid);
        }
      }
      while (show()) {
      }
      ::poll(nullptr, 0, 20);
      reap();
    }
    std::sort(killed_.begin(), killed_.end());
    end_.orphans = static_cast<int>(std::unique(killed_.begin(), killed_.end()) - killed_.begin());
  }

  SignalInbox& signals_;
  Caretaker& caretaker_;
  bool caretaker_knows_job_ = false;
  const ProcessLimits& limits_;
  const HangCheck& hangs_;
  ProcessEnd end_;
  internal::FileDescriptor errors_;  // mpirun's standard error
  bool ended_ = false;
  bool terminated_ = false;
  bool hard_killed_ = false;
  bool failure_seen_ = false;
  Stopwatch since_check_;
  Stopwatch since_stop_;
  Stopwatch since_asked_;
  Stopwatch since_termination_;
  Stopwatch since_failure_;
  std::vector<pid_t> killed_;
};

}  // namespace

ProcessEnd run_mpirun(const std::vector<std::string>& command, SignalInbox& signals,
                      Caretaker& caretaker, const ProcessLimits& limits, const HangCheck& hangs) {
  return Supervision(signals, caretaker, limits, hangs).run(command);
}

}  // namespace superstep::cluster
