// Virtual time of a federated run: who is used in the next round, and when it is over.
//
//   FederatedClock clock(options, clients, layout);
//   TimedWork work = clock.next(round);       // once per round, in order
//
// Synchronous: selects the cohort among those that are there when the round begins, and keeps those
// that report in time (round_timing.h); the next round begins when this one is over, or when
// somebody is there. Asynchronous: the reports of the next update (async_schedule.h).
//
// A pure function of the options and of how often next() was called: every rank keeps its own, and
// a run can be forecast without training (`superstep federated --dry-run`).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "paramserver/layout.h"
#include "worker/federated/async_schedule.h"
#include "worker/federated/cohort.h"
#include "worker/federated/device_model.h"
#include "worker/federated/federated_trainer.h"
#include "worker/federated/round_timing.h"

namespace superstep::worker {

// Whether rounds take virtual time.
bool has_clock(const FederatedOptions& options);

struct TimedWork {
  std::vector<std::int64_t> clients;  // in the order in which their updates are listed
  std::vector<Flight> flights;        // asynchronous: of the same clients
  RoundTiming timing;
};

class FederatedClock {
 public:
  // The layout says how many bytes travel to a client and, as compressed, back.
  FederatedClock(const FederatedOptions& options, std::shared_ptr<const ClientData> clients,
                 const paramserver::ParameterLayout& layout);
  FederatedClock(const FederatedClock&) = delete;
  FederatedClock& operator=(const FederatedClock&) = delete;
  ~FederatedClock() = default;

  TimedWork next(std::int64_t round);
  // Synchronous: of the cohorts to come.
  void set_cohort_seed(std::uint64_t seed) { cohort_.seed = seed; }
  // Asynchronous: the reports of the `updates` updates to come. The clock stays where it is.
  std::vector<Flight> peek(std::int64_t updates) const;
  VirtualTime now() const { return schedule_ ? schedule_->state().now : now_; }
  // Of the asynchronous schedule; empty without one.
  std::vector<std::int64_t> versions_in_training() const;

  ScheduleTexts state() const;
  void restore(const ScheduleTexts& texts, const std::filesystem::path& file);

 private:
  TimedWork next_round(std::int64_t round);
  TimedWork next_update();

  CohortOptions cohort_;
  TimingOptions timing_;
  std::shared_ptr<const ClientData> clients_;
  DeviceModel devices_;
  std::optional<AsyncSchedule> schedule_;
  VirtualTime now_{};
};

// What the first `rounds` rounds will be like.
ClockTotals forecast(FederatedClock& clock, std::int64_t rounds);

}  // namespace superstep::worker
