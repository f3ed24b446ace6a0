// What a FederatedTrainer keeps of virtual time: older models, totals, its part of checkpoints.
#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "base/check.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

// Before the update: the published model goes on as an old one where clients still train from it.
void FederatedTrainer::State::keep_versions() {
  if (versions) {
    const std::vector<std::int64_t> needed = clock->versions_in_training();
    versions->keep(needed, rounds_done, server.pull().buffer());
    if (options.audit != nullptr && world.ranks_at(bsp::Level::kNode).size() > 1 &&
        std::find(needed.begin(), needed.end(), rounds_done) != needed.end()) {
      options.audit->note("published_parameters", AuditWay::kSharedMemory,
                          versions->part_of_node().length() * std::int64_t{sizeof(float)});
    }
  }
}

void FederatedTrainer::State::note_time(const RoundPlan& plan, RoundReport& report) {
  last_cohort = plan.cohort;
  std::sort(last_cohort.begin(), last_cohort.end());
  last_cohort.erase(std::unique(last_cohort.begin(), last_cohort.end()), last_cohort.end());
  if (clock) {
    report.timing = plan.timing;
    time_totals.add(plan.timing, static_cast<std::int64_t>(plan.cohort.size()));
  }
}

std::optional<ClockTotals> FederatedTrainer::State::time_so_far() const {
  if (!clock) {
    return std::nullopt;
  }
  ClockTotals totals = time_totals;
  totals.end = clock->now();  // a resumed run may have had nothing left to do
  return totals;
}

// Of all rounds since the run began, with the name that a manifest gives them.
std::array<std::pair<std::string, std::int64_t*>, 8> FederatedTrainer::State::time_counters() {
  return {{{"time.rounds", &time_totals.rounds},
           {"time.used", &time_totals.used},
           {"time.late", &time_totals.late},
           {"time.dropped", &time_totals.dropped},
           {"time.gone", &time_totals.gone},
           {"time.stale", &time_totals.stale},
           {"time.staleness_max", &time_totals.staleness_max},
           {"time.versions", &time_totals.versions}}};
}

void FederatedTrainer::State::save_clock(paramserver::Manifest& manifest) {
  if (clock) {
    for (const auto& [name, count] : time_counters()) {
      manifest.numbers[name] = static_cast<double>(*count);
    }
    manifest.numbers["time.staleness_sum"] = time_totals.staleness_sum;
    const ScheduleTexts texts = clock->state();
    manifest.texts["virtual_clock"] = texts.clock;
    manifest.texts["clients_in_training"] = texts.flights;
  }
}

void FederatedTrainer::State::restore_clock(const paramserver::CheckpointReader& reader) {
  if (!clock) {
    return;
  }
  if (privacy) {
    clock->set_cohort_seed(sampling.seed);
  }
  const auto stored = [&](const std::string& name) {
    const auto found = reader.manifest().numbers.find(name);
    SUPERSTEP_CHECK(found != reader.manifest().numbers.end(), "checkpoint has no number", name);
    return found->second;
  };
  for (const auto& [name, count] : time_counters()) {
    *count = static_cast<std::int64_t>(stored(name));
  }
  time_totals.staleness_sum = stored("time.staleness_sum");
  const std::map<std::string, std::string>& texts = reader.manifest().texts;
  const auto text = [&](const std::string& name) {
    const auto found = texts.find(name);
    SUPERSTEP_CHECK(found != texts.end(), "checkpoint has no text", name);
    return found->second;
  };
  clock->restore({.clock = text("virtual_clock"), .flights = text("clients_in_training")},
                 reader.directory());
  if (versions) {
    versions->restore(reader, clock->versions_in_training());
  }
}

}  // namespace superstep::worker
