// A synchronous round on the virtual clock: which of the selected clients report in time, and how
// long the round takes.
//
//   over_selection  more clients are selected than are wanted, and the first to report are used
//                   (Bonawitz et al. 2019)
//   deadline        reports after so many virtual seconds are not used
//   min_reports     a round with fewer leaves the model as it is
//
// The round ends with the last report that is used. When fewer come than are wanted, it ends at the
// deadline; without one, when the last client was heard of or lost. Reports of one instant come in
// the order of clients. All of it is known before anybody trains, so a client whose report is not
// used is not trained.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/federated/device_model.h"
#include "worker/federated/virtual_time.h"

namespace superstep::worker {

struct TimingOptions {
  double over_selection = 1.0;    // at least 1
  double deadline_seconds = 0.0;  // 0: none
  std::int64_t min_reports = 0;
};

// Throws InvalidArgument that names the field.
void validate(const TimingOptions& options);

// Clients to select so that `wanted` reports come.
std::int64_t selection_size(const TimingOptions& options, std::int64_t wanted,
                            std::int64_t num_clients);

// What became of the clients of a round, or of those that started for an update of an asynchronous
// run. selected = used + late + dropped + gone in a round.
struct RoundTiming {
  VirtualTime begin{};
  VirtualTime end{};
  std::int64_t selected = 0;
  std::int64_t late = 0;     // after the deadline, or after enough others
  std::int64_t dropped = 0;  // lost by chance
  std::int64_t gone = 0;     // not there any more
  std::int64_t stale = 0;    // asynchronous: discarded reports
  double staleness_mean = 0.0;
  std::int64_t staleness_max = 0;
  std::int64_t versions = 0;  // asynchronous: models kept beside the published one
};

// Of many rounds.
struct ClockTotals {
  std::int64_t rounds = 0;
  VirtualTime end{};  // since the run began
  std::int64_t used = 0;
  std::int64_t late = 0;
  std::int64_t dropped = 0;
  std::int64_t gone = 0;
  std::int64_t stale = 0;
  double staleness_sum = 0.0;
  std::int64_t staleness_max = 0;
  std::int64_t versions = 0;  // the most at once

  void add(const RoundTiming& timing, std::int64_t clients_used);
  double staleness_mean() const {
    return used > 0 ? staleness_sum / static_cast<double>(used) : 0.0;
  }
};

struct TimedRound {
  std::vector<std::int64_t> used;  // ascending
  RoundTiming timing;
};

// `wanted` = 0: all of them. `round` numbers the clients' participations.
TimedRound time_round(const TimingOptions& options, const DeviceModel& devices,
                      std::span<const std::int64_t> selected, std::int64_t wanted,
                      std::int64_t round, VirtualTime begin);

}  // namespace superstep::worker
