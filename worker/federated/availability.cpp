#include "worker/federated/availability.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/philox.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

using Windows = std::span<const AvailabilityWindow>;

// The first window that ends after `at`, a time within the period.
Windows::iterator window_after(Windows windows, VirtualTime at) {
  return std::upper_bound(
      windows.begin(), windows.end(), at,
      [](VirtualTime time, const AvailabilityWindow& window) { return time < window.end; });
}

}  // namespace

std::string_view name_of(AvailabilityKind kind) {
  switch (kind) {
    case AvailabilityKind::kAlways:
      return "always";
    case AvailabilityKind::kPeriodic:
      return "periodic";
    case AvailabilityKind::kTrace:
      return "trace";
  }
  return "unknown";
}

void validate(const AvailabilityOptions& options) {
  constexpr auto kWhere = "AvailabilityOptions";
  require_field(kWhere,
                options.period_seconds >= 1e-6 && options.period_seconds <= kMostVirtualSeconds,
                "period_seconds", options.period_seconds, "a number in [1e-6, 1e9]");
  require_field(kWhere, options.fraction > 0.0 && options.fraction <= 1.0, "fraction",
                options.fraction, "a number in (0, 1]");
  if ((options.kind == AvailabilityKind::kTrace) != (options.trace != nullptr)) {
    throw InvalidArgument(kWhere, "a trace belongs to availability \"trace\", and to no other");
  }
}

Availability::Availability(AvailabilityOptions options) : options_(std::move(options)) {
  validate(options_);
  if (options_.kind == AvailabilityKind::kTrace) {
    period_ = options_.trace->period();
  } else {
    period_ = virtual_duration(options_.period_seconds);
    window_ =
        std::max(VirtualTime(1), virtual_duration(options_.period_seconds * options_.fraction));
  }
}

// The client is there in the first `window_` of its own period.
VirtualTime Availability::place_in_period(std::int64_t client, VirtualTime now) const {
  PhiloxStream stream(options_.seed, stream_id("federated availability"), client);
  const VirtualTime phase(
      static_cast<std::int64_t>(stream.below(static_cast<std::uint64_t>(period_.count()))));
  return (now % period_ + phase) % period_;
}

VirtualTime Availability::until(std::int64_t client, VirtualTime now) const {
  if (is_always()) {
    return kNever;
  }
  if (options_.kind == AvailabilityKind::kTrace) {
    return until_in_trace(client, now);
  }
  if (window_ >= period_) {
    return kNever;
  }
  const VirtualTime at = place_in_period(client, now);
  return at < window_ ? after(now, window_ - at) : now;
}

VirtualTime Availability::next(std::int64_t client, VirtualTime now) const {
  if (is_always() || is_there(client, now)) {
    return now;
  }
  if (options_.kind == AvailabilityKind::kTrace) {
    return next_in_trace(client, now);
  }
  return after(now, period_ - place_in_period(client, now));
}

// A window that reaches the end of the period goes on in one that begins with the next period.
VirtualTime Availability::until_in_trace(std::int64_t client, VirtualTime now) const {
  const Windows windows = options_.trace->windows(client);
  const VirtualTime at = now % period_;
  const auto found = window_after(windows, at);
  if (found == windows.end() || found->begin > at) {
    return now;
  }
  const VirtualTime end = after(now, found->end - at);
  const bool wraps = found->end == period_ && windows.front().begin == VirtualTime(0);
  if (!wraps) {
    return end;
  }
  return windows.front().end == period_ ? kNever : after(end, windows.front().end);
}

VirtualTime Availability::next_in_trace(std::int64_t client, VirtualTime now) const {
  const Windows windows = options_.trace->windows(client);
  if (windows.empty()) {
    return kNever;
  }
  const VirtualTime at = now % period_;
  const auto found = window_after(windows, at);
  return found != windows.end() ? after(now, found->begin - at)
                                : after(now, period_ - at + windows.front().begin);
}

}  // namespace superstep::worker
