#include "base/clock.h"

#include <array>
#include <cstdint>
#include <ctime>
#include <string>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace superstep {

namespace {

// Fixed-point with three significant digits; `value` is in [1, 1000).
std::string three_digits(double value, const char* unit) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, unit);
}

std::string format_below_a_minute(std::int64_t ns) {
  if (ns < 1'000) {
    return fmt::format("{} ns", ns);
  }
  struct Unit {
    const char* name;
    double nanoseconds;
  };
  constexpr std::array<Unit, 3> kUnits = {{{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}};
  for (const Unit& unit : kUnits) {
    const double value = static_cast<double>(ns) / unit.nanoseconds;
    // 999.5 would print as 1000: leave it to the next unit. Seconds stop at 60 anyway.
    if (value < 999.5) {
      return three_digits(value < 1.0 ? 1.0 : value, unit.name);
    }
  }
  return {};  // not reached: ns is below a minute
}

std::tm utc_fields(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm fields{};
  gmtime_r(&seconds, &fields);
  return fields;
}

}  // namespace

std::string format_duration(std::chrono::nanoseconds duration) {
  const std::int64_t ns = duration.count();
  if (ns < 0) {
    return fmt::format("-{}", format_duration(-duration));
  }
  constexpr std::int64_t kSecond = 1'000'000'000;
  if (ns < 60 * kSecond - kSecond / 20) {  // 59.95 s and more would print as 60.0 s
    return format_below_a_minute(ns);
  }
  const std::int64_t seconds = (ns + kSecond / 2) / kSecond;
  if (seconds < 3'600) {
    return fmt::format("{} min {:02} s", seconds / 60, seconds % 60);
  }
  const std::int64_t minutes = (seconds + 30) / 60;
  if (minutes < 24 * 60) {
    return fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
  }
  const std::int64_t hours = (minutes + 30) / 60;
  return fmt::format("{} d {:02} h", hours / 24, hours % 24);
}

std::string utc_iso8601(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", utc_fields(time));
}

std::string utc_compact(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y%m%d-%H%M%S}", utc_fields(time));
}

}  // namespace superstep
