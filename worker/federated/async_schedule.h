// Who trains when in an asynchronous federation: a discrete-event simulation of its clients on the
// virtual clock. How long a client takes is known before it trains (device_model.h), so the whole
// schedule is a pure function of the options: every rank simulates it alone, in the same order, and
// clients are trained only when, and if, their report is used.
//
//   AsyncSchedule schedule(options, devices, seed);
//   ServerUpdate update = schedule.next();         // update.reports: who, from which version
//
// `concurrency` clients are in training at any time. When one reports or is lost, the place is
// free, and a client that is there and not in training starts from the model of that moment, drawn
// uniformly, keyed by (seed, number of the draw). At one instant reports come first, in the order
// of clients, then the update they complete, then new starts; so clients of one speed make up
// rounds. A client lost is noticed at once. Places stay free while nobody is there.
//
// Cost of an update of K reports among C in training: O(K log C); with little availability, or with
// nearly all clients in training, O(clients) per start.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "worker/federated/asynchrony.h"
#include "worker/federated/device_model.h"
#include "worker/federated/virtual_time.h"

namespace superstep::worker {

// A client in training.
struct Flight {
  std::int64_t client = 0;
  std::int64_t version = 0;     // of the model it started from: updates done by then
  std::int64_t repetition = 0;  // its earlier starts from the same version
  Fate fate;

  // Reports of one instant come in the order of clients.
  friend bool operator<(const Flight& a, const Flight& b) {
    return a.fate.at != b.fate.at ? a.fate.at < b.fate.at : a.client < b.client;
  }
  friend bool operator==(const Flight&, const Flight&) = default;
};

// What one update of the model is made of, and what happened since the one before.
struct ServerUpdate {
  std::vector<Flight> reports;  // in the order they came
  VirtualTime begin{};
  VirtualTime end{};
  std::int64_t dropped = 0;
  std::int64_t gone = 0;
  std::int64_t stale = 0;  // reports discarded
};

// Between two updates. What a run continues from.
struct ScheduleState {
  VirtualTime now{};
  std::int64_t version = 0;
  std::int64_t draws = 0;
  std::int64_t starts = 0;
  std::set<Flight> flights;
  friend bool operator==(const ScheduleState&, const ScheduleState&) = default;
};

// As two tab-separated tables, for a checkpoint: the clock and the clients in training.
struct ScheduleTexts {
  std::string clock;
  std::string flights;
};
ScheduleTexts to_texts(const ScheduleState& state);
// Throws DataError (kBadCheckpoint) with the line; `file` is named.
ScheduleState parse_schedule(const ScheduleTexts& texts, const std::filesystem::path& file,
                             std::int64_t num_clients);

class AsyncSchedule {
 public:
  // `devices` must outlive this object.
  AsyncSchedule(const AsynchronyOptions& options, const DeviceModel& devices, std::uint64_t seed);

  // Throws InvalidArgument when client after client is lost, so that no report ever comes.
  ServerUpdate next();

  const ScheduleState& state() const { return state_; }
  void restore(ScheduleState state);
  // Versions that a report to come may be relative to, ascending, all older than state().version:
  // at most min(concurrency, max_staleness) of them.
  std::vector<std::int64_t> versions_in_training() const;

 private:
  void land(ServerUpdate& update);
  void start_clients();
  void advance();
  bool is_too_stale(const Flight& flight) const;

  AsynchronyOptions options_;
  const DeviceModel& devices_;
  std::uint64_t seed_;
  ScheduleState state_;
  std::unordered_set<std::int64_t> in_training_;
  std::map<std::int64_t, std::int64_t> started_;  // clients from this version, how often
};

}  // namespace superstep::worker
