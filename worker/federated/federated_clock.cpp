#include "worker/federated/federated_clock.h"

#include <algorithm>
#include <utility>

#include "base/as_size.h"
#include "base/error.h"
#include "base/philox.h"
#include "worker/federated/compression.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));

// The bytes of an encoded update do not depend on its values.
std::int64_t upload_bytes(const CompressionOptions& compression, std::int64_t elements) {
  if (compression.kind == CompressionKind::kNone) {
    return elements * kFloatBytes;
  }
  std::vector<float> update(as_size(elements), 1.0F);
  return compress(compression, PhiloxStream(0), update);
}

ClientTask task_of(const FederatedOptions& options, const paramserver::ParameterLayout& layout) {
  const std::int64_t elements =
      elements_on_the_wire(shared_entries(layout, options.personalization));
  const paramserver::ControlKind control = server_options(options.algorithm).control;
  const bool has_control = control == paramserver::ControlKind::kScaffold ||
                           control == paramserver::ControlKind::kMimeLite;
  const std::int64_t control_bytes = has_control ? layout.num_parameters() * kFloatBytes : 0;
  return {.epochs = options.local.epochs,
          .download_bytes = elements * kFloatBytes + control_bytes,
          .upload_bytes = upload_bytes(options.compression, elements) + control_bytes};
}

}  // namespace

bool has_clock(const FederatedOptions& options) {
  return options.device.speed != DeviceSpeed::kNone;
}

FederatedClock::FederatedClock(const FederatedOptions& options,
                               std::shared_ptr<const ClientData> clients,
                               const paramserver::ParameterLayout& layout)
    : cohort_(options.cohort),
      timing_(options.timing),
      clients_(std::move(clients)),
      devices_(options.device, clients_, task_of(options, layout)) {
  if (options.asynchrony.kind != Asynchrony::kNone) {
    schedule_.emplace(options.asynchrony, devices_, options.cohort.seed);
  }
}

TimedWork FederatedClock::next(std::int64_t round) {
  return schedule_ ? next_update() : next_round(round);
}

TimedWork FederatedClock::next_round(std::int64_t round) {
  const Availability& availability = devices_.availability();
  const VirtualTime begin = devices_.somebody_there(now_);
  MayTakePart may;  // empty: everybody
  if (!availability.is_always()) {
    may = [&](std::int64_t client) { return availability.is_there(client, begin); };
  }
  CohortOptions selection = cohort_;
  const bool everybody_counts = cohort_.sampling == Sampling::kPoisson;
  if (!everybody_counts) {
    selection.size = selection_size(timing_, cohort_.size, clients_->num_clients());
  }
  const std::vector<std::int64_t> selected = select_cohort(selection, *clients_, round, may);
  TimedRound timed =
      time_round(timing_, devices_, selected, everybody_counts ? 0 : cohort_.size, round, begin);
  now_ = timed.timing.end;
  TimedWork work{.clients = std::move(timed.used), .flights = {}, .timing = timed.timing};
  if (static_cast<std::int64_t>(work.clients.size()) < timing_.min_reports) {
    work.clients.clear();
  }
  return work;
}

TimedWork FederatedClock::next_update() {
  ServerUpdate update = schedule_->next();
  const std::int64_t version = schedule_->state().version - 1;  // the one that is updated
  TimedWork work;
  work.timing = {.begin = update.begin,
                 .end = update.end,
                 .dropped = update.dropped,
                 .gone = update.gone,
                 .stale = update.stale,
                 .versions = static_cast<std::int64_t>(versions_in_training().size())};
  double sum = 0.0;
  for (const Flight& flight : update.reports) {
    const std::int64_t staleness = version - flight.version;
    work.clients.push_back(flight.client);
    sum += static_cast<double>(staleness);
    work.timing.staleness_max = std::max(work.timing.staleness_max, staleness);
  }
  const auto used = static_cast<std::int64_t>(work.clients.size());
  work.timing.staleness_mean = sum / static_cast<double>(used);
  work.timing.selected = used + update.dropped + update.gone + update.stale;
  work.flights = std::move(update.reports);
  return work;
}

std::vector<Flight> FederatedClock::peek(std::int64_t updates) const {
  std::vector<Flight> flights;
  AsyncSchedule schedule = *schedule_;
  for (std::int64_t i = 0; i < updates; ++i) {
    const ServerUpdate update = schedule.next();
    flights.insert(flights.end(), update.reports.begin(), update.reports.end());
  }
  return flights;
}

std::vector<std::int64_t> FederatedClock::versions_in_training() const {
  return schedule_ ? schedule_->versions_in_training() : std::vector<std::int64_t>();
}

ScheduleTexts FederatedClock::state() const {
  return to_texts(schedule_ ? schedule_->state() : ScheduleState{.now = now_, .flights = {}});
}

void FederatedClock::restore(const ScheduleTexts& texts, const std::filesystem::path& file) {
  ScheduleState state = parse_schedule(texts, file, devices_.num_clients());
  now_ = state.now;
  if (schedule_) {
    schedule_->restore(std::move(state));
  }
}

ClockTotals forecast(FederatedClock& clock, std::int64_t rounds) {
  ClockTotals totals;
  for (std::int64_t round = 0; round < rounds; ++round) {
    const TimedWork work = clock.next(round);
    totals.add(work.timing, static_cast<std::int64_t>(work.clients.size()));
  }
  return totals;
}

}  // namespace superstep::worker
