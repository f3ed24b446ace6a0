#include "worker/federated/round_timing.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

struct Report {
  Fate fate;
  std::int64_t client = 0;
};

// In the order in which the server hears of them.
std::vector<Report> reports_of(const DeviceModel& devices, std::span<const std::int64_t> selected,
                               std::int64_t round, VirtualTime begin) {
  std::vector<Report> reports;
  reports.reserve(selected.size());
  for (const std::int64_t client : selected) {
    reports.push_back({devices.fate(client, round, begin), client});
  }
  std::sort(reports.begin(), reports.end(), [](const Report& a, const Report& b) {
    return a.fate.at != b.fate.at ? a.fate.at < b.fate.at : a.client < b.client;
  });
  return reports;
}

}  // namespace

void validate(const TimingOptions& options) {
  constexpr auto kWhere = "TimingOptions";
  require_field(kWhere, options.over_selection >= 1.0 && options.over_selection <= 1e6,
                "over_selection", options.over_selection, "a number in [1, 1e6]");
  require_field(kWhere, options.deadline_seconds >= 0.0, "deadline_seconds",
                options.deadline_seconds, "a number above 0, or 0 for none");
  if (options.min_reports < 0) {
    throw InvalidArgument(
        kWhere, fmt::format("min_reports: got {}, expected at least 0", options.min_reports));
  }
}

std::int64_t selection_size(const TimingOptions& options, std::int64_t wanted,
                            std::int64_t num_clients) {
  constexpr double kRounding = 1e-9;  // 100 * 1.1 is a little more than 110
  const double size = std::ceil(static_cast<double>(wanted) * options.over_selection - kRounding);
  return std::min(num_clients, static_cast<std::int64_t>(size));
}

TimedRound time_round(const TimingOptions& options, const DeviceModel& devices,
                      std::span<const std::int64_t> selected, std::int64_t wanted,
                      std::int64_t round, VirtualTime begin) {
  const bool has_deadline = options.deadline_seconds > 0.0;
  const VirtualTime limit =
      has_deadline ? after(begin, virtual_duration(options.deadline_seconds)) : kNever;
  const std::size_t enough =
      wanted > 0 ? std::min(as_size(wanted), selected.size()) : selected.size();
  TimedRound result;
  RoundTiming& timing = result.timing;
  timing.selected = static_cast<std::int64_t>(selected.size());
  timing.begin = begin;
  timing.end = begin;
  for (const Report& report : reports_of(devices, selected, round, begin)) {
    if (report.fate.at > limit || result.used.size() == enough) {
      ++timing.late;
      continue;
    }
    timing.end = report.fate.at;
    if (report.fate.outcome == Outcome::kReports) {
      result.used.push_back(report.client);
    } else {
      ++(report.fate.outcome == Outcome::kDropsOut ? timing.dropped : timing.gone);
    }
  }
  if (has_deadline && result.used.size() < enough) {
    timing.end = limit;
  }
  std::sort(result.used.begin(), result.used.end());
  return result;
}

void ClockTotals::add(const RoundTiming& timing, std::int64_t clients_used) {
  ++rounds;
  end = timing.end;
  used += clients_used;
  late += timing.late;
  dropped += timing.dropped;
  gone += timing.gone;
  stale += timing.stale;
  staleness_sum += timing.staleness_mean * static_cast<double>(clients_used);
  staleness_max = std::max(staleness_max, timing.staleness_max);
  versions = std::max(versions, timing.versions);
}

}  // namespace superstep::worker
