#include "base/clock.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

namespace superstep {
namespace {

using namespace std::chrono_literals;

TEST(Stopwatch, MeasuresAtLeastTheTimeSlept) {
  const Stopwatch watch;
  std::this_thread::sleep_for(5ms);
  EXPECT_GE(watch.elapsed(), 5ms);
  EXPECT_GE(watch.seconds(), 0.005);
}

TEST(Stopwatch, LapsAddUpToTheWhole) {
  const auto begin = Clock::now();
  Stopwatch watch;
  std::this_thread::sleep_for(1ms);
  const auto first = watch.restart();
  std::this_thread::sleep_for(1ms);
  const auto second = watch.restart();
  const auto whole = Clock::now() - begin;
  EXPECT_GE(first, 1ms);
  EXPECT_GE(second, 1ms);
  EXPECT_LE(first + second, whole);
}

TEST(Duration, HasThreeSignificantDigitsBelowAMinute) {
  EXPECT_EQ(format_duration(0ns), "0 ns");
  EXPECT_EQ(format_duration(850ns), "850 ns");
  EXPECT_EQ(format_duration(1250us), "1.25 ms");
  EXPECT_EQ(format_duration(12340us), "12.3 ms");
  EXPECT_EQ(format_duration(123456us), "123 ms");
  EXPECT_EQ(format_duration(12300ms), "12.3 s");
  EXPECT_EQ(format_duration(-1250us), "-1.25 ms");
}

TEST(Duration, RoundsIntoTheNextUnit) {
  EXPECT_EQ(format_duration(999'499ns), "999 us");
  EXPECT_EQ(format_duration(999'500ns), "1.00 ms");
  EXPECT_EQ(format_duration(999'999'999ns), "1.00 s");
  EXPECT_EQ(format_duration(9'995'000ns), "10.0 ms");
  EXPECT_EQ(format_duration(59'940ms), "59.9 s");
  EXPECT_EQ(format_duration(59'999ms), "1 min 00 s");
  EXPECT_EQ(format_duration(3'599'500ms), "1 h 00 min");
}

TEST(Duration, CountsMinutesHoursAndDays) {
  EXPECT_EQ(format_duration(245s), "4 min 05 s");
  EXPECT_EQ(format_duration(2h + 3min), "2 h 03 min");
  EXPECT_EQ(format_duration(76h), "3 d 04 h");
}

TEST(Timestamp, IsUtcForRecordsAndForNames) {
  const std::chrono::system_clock::time_point time{1'777'627'800s};
  EXPECT_EQ(utc_iso8601(time), "2026-05-01T09:30:00Z");
  EXPECT_EQ(utc_compact(time), "20260501-093000");
}

TEST(Seconds, ConvertsAnyDuration) {
  EXPECT_DOUBLE_EQ(to_seconds(1500ms), 1.5);
  EXPECT_DOUBLE_EQ(to_seconds(2min), 120.0);
}

}  // namespace
}  // namespace superstep
