// Time: a monotonic clock for measuring, the wall clock for names and records.
//
//   Stopwatch watch;
//   work();
//   log->info("took {}", format_duration(watch.elapsed()));     // "took 1.25 ms"
#pragma once

#include <chrono>
#include <string>

namespace superstep {

using Clock = std::chrono::steady_clock;

template <typename Rep, typename Period>
constexpr double to_seconds(std::chrono::duration<Rep, Period> duration) {
  return std::chrono::duration<double>(duration).count();
}

// Runs from its construction or last restart().
class Stopwatch {
 public:
  std::chrono::nanoseconds elapsed() const { return Clock::now() - begin_; }
  double seconds() const { return to_seconds(elapsed()); }

  // Returns the time since the last restart and starts again; no time is lost between laps.
  std::chrono::nanoseconds restart() {
    const Clock::time_point now = Clock::now();
    const std::chrono::nanoseconds lap = now - begin_;
    begin_ = now;
    return lap;
  }

 private:
  Clock::time_point begin_ = Clock::now();
};

// Three significant digits below a minute ("850 ns", "1.25 ms", "12.3 s"), then "4 min 05 s",
// "2 h 03 min", "3 d 04 h". Negative durations carry a minus sign.
std::string format_duration(std::chrono::nanoseconds duration);

// UTC, "2026-05-01T09:30:00Z" for records and "20260501-093000" for names of files and directories.
std::string utc_iso8601(
    std::chrono::system_clock::time_point time = std::chrono::system_clock::now());
std::string utc_compact(
    std::chrono::system_clock::time_point time = std::chrono::system_clock::now());

}  // namespace superstep
