// Watches a supervised job from outside, by the files its processes write (bsp/status_recorder.h).
//
// The ranks themselves name those that do not arrive (the deadline of every sync), as long as one
// of them can speak. This watch is for what they cannot see: all of them stopped, or a job that
// hangs before its first sync. The job moves as long as any rank's superstep or number of calls
// grows. When none did for `patience`, the culprit is the rank with the lowest superstep and number
// of calls; among equals one whose process does not even write its file.
//
// Files are read on a thread of its own: a file system that hangs is no hang of the job, and does
// not stop the launcher.
//
//   HangWatch watch(run.launch_records(), std::chrono::seconds(300));
//   if (auto culprit = watch.look()) ... stop the job ...
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace superstep::cluster {

struct WatchedRank {
  int rank = -1;
  std::string host;
  std::int64_t superstep = 0;
  std::int64_t calls = 0;
  std::int64_t time_ms = 0;  // of its file, by its own clock
  std::string state;
  std::string phase;
  std::string site;
  std::string to_text() const;
};

// Of one status file; none when it is damaged. Throws nothing of its own.
std::vector<WatchedRank> parse_status(std::string_view text);
// Of all status files in the directory; damaged ones are left out. By rank.
std::vector<WatchedRank> read_statuses(const std::filesystem::path& launch_directory);
// The rank that is behind; nullopt when there are none.
std::optional<WatchedRank> culprit_of(const std::vector<WatchedRank>& ranks);

class HangWatch {
 public:
  using Reader = std::function<std::vector<WatchedRank>()>;

  HangWatch(std::filesystem::path launch_directory, std::chrono::milliseconds patience);
  HangWatch(Reader reader, std::chrono::milliseconds patience)
      : reader_(std::move(reader)), patience_(patience) {}

  // Call it about once a second. The culprit when nothing moved for too long.
  std::optional<WatchedRank> look();
  // How long the files have been waited for.
  std::chrono::nanoseconds waits() const;

 private:
  std::optional<std::vector<WatchedRank>> read();

  Reader reader_;
  std::chrono::milliseconds patience_;
  std::future<std::vector<WatchedRank>> reading_;
  Stopwatch since_reading_;
  bool was_late_ = false;
  std::vector<std::pair<std::int64_t, std::int64_t>> last_;  // superstep and calls by rank
  Stopwatch since_move_;
};

}  // namespace superstep::cluster
