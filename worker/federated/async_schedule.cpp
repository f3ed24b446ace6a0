#include "worker/federated/async_schedule.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "base/philox.h"
#include "worker/federated/cohort.h"
#include "worker/federated/tab_separated.h"

namespace superstep::worker {

namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

// So many lost clients in a row for each there is are no bad luck.
constexpr std::int64_t kLossesPerClient = 100;
constexpr std::int64_t kLeastLosses = 100'000;

}  // namespace

ScheduleTexts to_texts(const ScheduleState& state) {
  ScheduleTexts texts{
      .clock = fmt::format("now\tversion\tdraws\tstarts\n{}\t{}\t{}\t{}\n", state.now.count(),
                           state.version, state.draws, state.starts),
      .flights = "client\tversion\trepetition\toutcome\tat\n"};
  for (const Flight& flight : state.flights) {
    texts.flights +=
        fmt::format("{}\t{}\t{}\t{}\t{}\n", flight.client, flight.version, flight.repetition,
                    static_cast<int>(flight.fate.outcome), flight.fate.at.count());
  }
  return texts;
}

ScheduleState parse_schedule(const ScheduleTexts& texts, const std::filesystem::path& file,
                             std::int64_t num_clients) {
  TabSeparated clock("parse_schedule", texts.clock, file, ExitCode::kBadCheckpoint);
  if (!clock.next()) {
    clock.fail("the virtual clock is missing");
  }
  ScheduleState state{.now = VirtualTime(clock.integer(clock.column("now"), 0, kMost)),
                      .version = clock.integer(clock.column("version"), 0, kMost),
                      .draws = clock.integer(clock.column("draws"), 0, kMost),
                      .starts = clock.integer(clock.column("starts"), 0, kMost),
                      .flights = {}};
  TabSeparated rows("parse_schedule", texts.flights, file, ExitCode::kBadCheckpoint);
  const std::size_t client = rows.column("client");
  const std::size_t version = rows.column("version");
  const std::size_t repetition = rows.column("repetition");
  const std::size_t outcome = rows.column("outcome");
  const std::size_t at = rows.column("at");
  std::set<std::int64_t> clients;
  while (rows.next()) {
    const Flight flight{.client = rows.integer(client, 0, num_clients - 1),
                        .version = rows.integer(version, 0, state.version),
                        .repetition = rows.integer(repetition, 0, kMost),
                        .fate = {.outcome = static_cast<Outcome>(rows.integer(outcome, 0, 2)),
                                 .at = VirtualTime(rows.integer(at, state.now.count(), kMost))}};
    if (!clients.insert(flight.client).second) {
      rows.fail(fmt::format("client {} is in training twice", flight.client));
    }
    state.flights.insert(flight);
  }
  return state;
}

AsyncSchedule::AsyncSchedule(const AsynchronyOptions& options, const DeviceModel& devices,
                             std::uint64_t seed)
    : options_(options), devices_(devices), seed_(seed) {
  validate(options_, devices_.num_clients());
}

void AsyncSchedule::restore(ScheduleState state) {
  state_ = std::move(state);
  in_training_.clear();
  for (const Flight& flight : state_.flights) {
    in_training_.insert(flight.client);
  }
  started_.clear();
}

bool AsyncSchedule::is_too_stale(const Flight& flight) const {
  return options_.max_staleness > 0 && state_.version - flight.version > options_.max_staleness;
}

// Takes the flight that ends first.
void AsyncSchedule::land(ServerUpdate& update) {
  const Flight flight = state_.flights.extract(state_.flights.begin()).value();
  in_training_.erase(flight.client);
  if (flight.fate.outcome == Outcome::kDropsOut) {
    ++update.dropped;
  } else if (flight.fate.outcome == Outcome::kGoesAway) {
    ++update.gone;
  } else if (is_too_stale(flight)) {
    ++update.stale;
  } else {
    update.reports.push_back(flight);
  }
  const std::int64_t most = std::max(kLeastLosses, kLossesPerClient * devices_.num_clients());
  if (const std::int64_t lost = update.dropped + update.gone + update.stale; lost > most) {
    throw InvalidArgument(
        "AsyncSchedule",
        fmt::format("clients are lost before they report: {} dropped out, {} went away, {} were "
                    "too stale for an update of {} reports, of which {} came; expected faster "
                    "devices, longer availability or a larger max_staleness",
                    update.dropped, update.gone, update.stale, reports_per_update(options_),
                    update.reports.size()));
  }
}

void AsyncSchedule::start_clients() {
  const std::int64_t places =
      options_.concurrency - static_cast<std::int64_t>(state_.flights.size());
  if (places == 0) {
    return;
  }
  const Availability& availability = devices_.availability();
  MayTakePart may;  // empty: everybody
  if (!availability.is_always() || !in_training_.empty()) {
    may = [&](std::int64_t client) {
      return !in_training_.contains(client) && availability.is_there(client, state_.now);
    };
  }
  const PhiloxStream stream(seed_, stream_id("federated cohort"), state_.draws++);
  for (const std::int64_t client : choose_clients(places, devices_.num_clients(), stream, may)) {
    in_training_.insert(client);
    state_.flights.insert({.client = client,
                           .version = state_.version,
                           .repetition = started_[client]++,
                           .fate = devices_.fate(client, state_.starts++, state_.now)});
  }
}

// To the next end of a flight, or to the moment at which a free place can be taken.
void AsyncSchedule::advance() {
  VirtualTime next = state_.flights.empty() ? kNever : state_.flights.begin()->fate.at;
  if (static_cast<std::int64_t>(state_.flights.size()) < options_.concurrency) {
    next = std::min(next, devices_.somebody_there(state_.now, [&](std::int64_t client) {
      return !in_training_.contains(client);
    }));
  }
  state_.now = next;
}

ServerUpdate AsyncSchedule::next() {
  ServerUpdate update;
  update.begin = state_.now;
  const std::size_t wanted = as_size(reports_per_update(options_));
  while (true) {
    while (!state_.flights.empty() && state_.flights.begin()->fate.at <= state_.now) {
      land(update);
      if (update.reports.size() == wanted) {
        update.end = state_.now;
        ++state_.version;
        started_.clear();
        return update;
      }
    }
    start_clients();
    advance();
  }
}

std::vector<std::int64_t> AsyncSchedule::versions_in_training() const {
  std::set<std::int64_t> versions;
  for (const Flight& flight : state_.flights) {
    if (flight.fate.outcome == Outcome::kReports && !is_too_stale(flight)) {
      versions.insert(flight.version);
    }
  }
  return {versions.begin(), versions.end()};
}

}  // namespace superstep::worker
