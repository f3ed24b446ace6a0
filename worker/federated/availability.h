// Whether a client is there at a virtual time: a pure function of the options.
//
//   always    everybody, all the time
//   periodic  for a part of every period, from an own phase drawn by (seed, client): people who
//             charge their devices at night, in all time zones
//   trace     as a file says (availability_trace.h)
//
// Cost: O(1); kTrace: O(log windows of the client). Memory: none but the trace.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "worker/federated/availability_trace.h"
#include "worker/federated/virtual_time.h"

namespace superstep::worker {

enum class AvailabilityKind : std::uint8_t { kAlways, kPeriodic, kTrace };
std::string_view name_of(AvailabilityKind kind);

struct AvailabilityOptions {
  AvailabilityKind kind = AvailabilityKind::kAlways;
  double period_seconds = 86400.0;  // kPeriodic
  double fraction = 0.5;            // kPeriodic: part of the period, in (0, 1]
  std::uint64_t seed = 1;
  std::shared_ptr<const AvailabilityTrace> trace;  // kTrace
};

// Throws InvalidArgument that names the field.
void validate(const AvailabilityOptions& options);

class Availability {
 public:
  explicit Availability(AvailabilityOptions options);

  bool is_always() const { return options_.kind == AvailabilityKind::kAlways; }
  // now >= 0 everywhere.
  bool is_there(std::int64_t client, VirtualTime now) const { return until(client, now) > now; }
  // When a client that is there goes away; `now` when it is not there, kNever when it stays.
  VirtualTime until(std::int64_t client, VirtualTime now) const;
  // The earliest time from `now` on at which it is there; kNever when it never is.
  VirtualTime next(std::int64_t client, VirtualTime now) const;

 private:
  VirtualTime place_in_period(std::int64_t client, VirtualTime now) const;
  VirtualTime until_in_trace(std::int64_t client, VirtualTime now) const;
  VirtualTime next_in_trace(std::int64_t client, VirtualTime now) const;

  AvailabilityOptions options_;
  VirtualTime period_{};
  VirtualTime window_{};  // kPeriodic
};

}  // namespace superstep::worker
