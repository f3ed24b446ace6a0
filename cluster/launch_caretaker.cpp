#include "cluster/launch_caretaker.h"

#include <array>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cluster/launch_leftovers.h"
#include "cluster/process_table.h"

namespace superstep::cluster {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kGrace{8000};  // for mpirun, and then for its ranks, to end by themselves
constexpr milliseconds kLimit{20'000};
constexpr int kLookMilliseconds = 50;

// What the caretaker knows of an attempt.
struct Watched {
  pid_t mpirun = 0;           // 0: nothing to watch
  std::uint64_t started = 0;  // its, as of RunningProcess
  std::int64_t daemon_job = -1;
};

// Of this machine and user, by the variable that Open MPI gives every rank.
std::vector<pid_t> ranks_of(std::int64_t daemon_job) {
  std::vector<pid_t> pids;
  if (daemon_job < 0) {
    return pids;
  }
  const std::string wanted = '\0' + fmt::format("PMIX_NAMESPACE={}", daemon_job + 1) + '\0';
  for (const pid_t pid : all_processes()) {
    std::ifstream file(fmt::format("/proc/{}/environ", pid), std::ios::binary);
    const std::string environment = '\0' + std::string{std::istreambuf_iterator<char>(file), {}};
    if (environment.find(wanted) != std::string::npos && find_running(pid)) {
      pids.push_back(pid);
    }
  }
  return pids;
}

// Waits until `left()` is empty; kills what is left after kGrace.
template <typename Left>
void end_all(const Left& left) {
  const Stopwatch watch;
  for (std::vector<pid_t> pids = left(); !pids.empty() && watch.elapsed() < kLimit; pids = left()) {
    for (const pid_t pid : pids) {
      if (watch.elapsed() > kGrace) {
        ::kill(pid, SIGKILL);
      }
    }
    ::poll(nullptr, 0, kLookMilliseconds);
  }
}

void clean_up(const Watched& watched, pid_t launcher) {
  end_all([&] {
    const std::optional<RunningProcess> process = find_running(watched.mpirun);
    const bool runs = process && process->started == watched.started;
    return runs ? std::vector<pid_t>{watched.mpirun} : std::vector<pid_t>{};
  });
  end_all([&] { return ranks_of(watched.daemon_job); });
  remove_leftovers(watched.daemon_job < 0
                       ? std::nullopt
                       : std::optional(static_cast<std::uint32_t>(watched.daemon_job)),
                   watched.mpirun);
  remove_hostfiles(launcher);
}

// Nothing of the launcher's terminal and files: whoever reads its output sees it end.
void stand_aside(int news) {
  ::setsid();
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    ::dup2(nothing, standard);
  }
  constexpr int kMostDescriptors = 1024;  // of a process that has just begun
  for (int descriptor = STDERR_FILENO + 1; descriptor < kMostDescriptors; ++descriptor) {
    if (descriptor != news) {
      ::close(descriptor);
    }
  }
}

[[noreturn]] void take_care(int news, pid_t launcher) {
  stand_aside(news);
  Watched watched;
  Watched newer;
  while (::read(news, &newer, sizeof newer) == static_cast<ssize_t>(sizeof newer)) {
    watched = newer;
  }
  if (watched.mpirun > 0) {
    clean_up(watched, launcher);
  }
  ::_exit(0);
}

}  // namespace

Caretaker::Caretaker() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return;
  }
  internal::FileDescriptor reader(ends[0]);
  internal::FileDescriptor writer(ends[1]);
  // A grandchild: no child of the launcher, which ends whatever children it finds.
  const pid_t launcher = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    writer.reset();
    if (::fork() == 0) {
      take_care(reader.get(), launcher);
    }
    ::_exit(0);
  }
  if (child > 0) {
    ::waitpid(child, nullptr, 0);
    launcher_ = std::move(writer);
  }
}

void Caretaker::watch(pid_t mpirun, std::optional<std::uint32_t> daemon_job) {
  const std::optional<RunningProcess> process = find_running(mpirun);
  const Watched watched{.mpirun = mpirun,
                        .started = process ? process->started : 0,
                        .daemon_job = daemon_job ? std::int64_t{*daemon_job} : -1};
  if (launcher_.is_open() && ::send(launcher_.get(), &watched, sizeof watched, MSG_NOSIGNAL) < 0) {
    launcher_.reset();  // it is gone
  }
}

void Caretaker::forget() {
  watch(0, std::nullopt);
}

}  // namespace superstep::cluster
