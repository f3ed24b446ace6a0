#include "bsp/status_recorder.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>
#include <unistd.h>

namespace superstep::bsp::internal {

namespace {

constexpr std::chrono::milliseconds kInterval{1000};
// Until the directory is there.
constexpr std::chrono::milliseconds kFirstInterval{50};

const char* name_of(RankState state) {
  switch (state) {
    case RankState::kNotStarted:
      return "not started";
    case RankState::kComputing:
      return "computing";
    case RankState::kInCall:
      return "waiting";
    case RankState::kFinished:
      return "finished";
  }
  return "unknown";
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

StatusRecorder::StatusRecorder(const StatusBoard& board, std::vector<int> ranks, std::string host,
                               std::filesystem::path file)
    : board_(board), ranks_(std::move(ranks)), host_(std::move(host)), file_(std::move(file)) {
  if (file_.empty()) {
    return;
  }
  // The process's signals are for its ranks.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

StatusRecorder::~StatusRecorder() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      end_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }
}

void StatusRecorder::run() {
  std::unique_lock lock(mutex_);
  bool written = false;
  while (!ended_.wait_for(lock, written ? kInterval : kFirstInterval, [this] { return end_; })) {
    try {
      written = write() || written;
    } catch (const std::exception&) {
      // A status that cannot be written is no reason to disturb the job.
    }
  }
}

bool StatusRecorder::write() const {
  std::error_code error;
  if (!std::filesystem::is_directory(file_.parent_path(), error)) {
    return false;
  }
  nlohmann::json ranks = nlohmann::json::array();
  for (const int rank : ranks_) {
    const RankStatus status = board_.read(rank);
    ranks.push_back({{"rank", rank},
                     {"superstep", status.superstep},
                     {"calls", status.calls},
                     {"state", name_of(status.state)},
                     {"phase", status.phase},
                     {"site", status.site}});
  }
  const nlohmann::json json = {
      {"time_ms", now_ms()}, {"host", host_}, {"process", ::getpid()}, {"ranks", ranks}};
  std::filesystem::path temporary = file_;
  temporary += ".tmp";
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    if (!file.flush()) {
      return false;
    }
  }
  std::filesystem::rename(temporary, file_, error);
  return !error;
}

}  // namespace superstep::bsp::internal
