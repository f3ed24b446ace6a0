// What a FederatedTrainer keeps of virtual time: older models, totals, its part of checkpoints.
#include <algorithm>
#include <map>
#include <string>

#include "base/check.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

// Before the update: the published model goes on as an old one where clients still train from it.
void FederatedTrainer::State::keep_versions() {
  if (versions) {
    versions->keep(clock->versions_in_training(), rounds_done, server.pull().buffer());
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

void FederatedTrainer::State::save_clock(paramserver::Manifest& manifest) const {
  if (clock) {
    const ScheduleTexts texts = clock->state();
    manifest.texts["virtual_clock"] = texts.clock;
    manifest.texts["clients_in_training"] = texts.flights;
  }
}

void FederatedTrainer::State::restore_clock(const paramserver::CheckpointReader& reader) {
  if (!clock) {
    return;
  }
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
