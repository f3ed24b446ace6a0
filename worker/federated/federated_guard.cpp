// What ends a federated run that only seems to go on: a model that is no number, and rounds without
// an update that could be used.
#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

// Consecutive rounds in which every client was rejected.
constexpr std::int64_t kMostRoundsInVain = 10;
constexpr std::size_t kMostClientsNamed = 5;

std::string named(const std::vector<RejectedClient>& rejected) {
  std::string text;
  for (std::size_t i = 0; i < std::min(rejected.size(), kMostClientsNamed); ++i) {
    text += fmt::format("{}client {} {}", i == 0 ? "" : ", ", rejected[i].client,
                        name_of(rejected[i].reason));
  }
  return text + (rejected.size() > kMostClientsNamed ? ", ..." : "");
}

}  // namespace

// Every rank sees the whole published model, so all come to the same verdict without a word. One
// pass over it, as each client's start is.
void FederatedTrainer::State::require_finite_model() const {
  const std::span<const float> values = server.pull().buffer();
  const auto bad =
      std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (bad == values.end()) {
    return;
  }
  const std::int64_t at = bad - values.begin();
  int owner = 0;
  while (at >= model.layout().shard(owner, world.size()).end) {
    ++owner;
  }
  throw DataError(
      "FederatedTrainer", fmt::format("round {}", rounds_done + 1), -1,
      fmt::format("the server's step gave a model that is no number: got {} in the shard of rank "
                  "{}. Checkpoints of earlier rounds are untouched. A lower server or client "
                  "learning rate may help",
                  *bad, owner),
      ExitCode::kNumbers);
}

void FederatedTrainer::State::require_progress(const RoundReport& report) {
  if (report.cohort == 0) {
    return;  // nobody was asked
  }
  const bool in_vain = static_cast<std::int64_t>(report.rejected.size()) == report.cohort;
  rounds_in_vain = in_vain ? rounds_in_vain + 1 : 0;
  if (rounds_in_vain < std::min(kMostRoundsInVain, options.rounds)) {
    return;
  }
  throw DataError(
      "FederatedTrainer", fmt::format("round {}", report.round), -1,
      fmt::format("no update was accepted in {} rounds: got {}. The model is as before them. A "
                  "lower client learning rate or a larger update_bound may help",
                  rounds_in_vain, named(report.rejected)),
      ExitCode::kNumbers);
}

}  // namespace superstep::worker
