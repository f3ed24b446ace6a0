// What bounds of norms add to a round: each client's update before it enters the sum, and the next
// bounds after it.
#include <algorithm>
#include <array>
#include <cmath>

#include "worker/federated/federated_state.h"

namespace superstep::worker {

// Of the update that lies in local.parameters(), all entries of the layout together.
void FederatedTrainer::State::bound_update(ClientRecord& record) const {
  double largest = 0.0;
  double squares = 0.0;
  const std::span<const float> own = local.parameters();
  for (std::size_t i = 0; i < own.size(); ++i) {
    const double element = static_cast<double>(own[i]) - static_cast<double>(origin.reference[i]);
    largest = std::max(largest, std::abs(element));
    squares += element * element;
  }
  const NormVerdict verdict = norms->judge(largest, std::sqrt(squares));
  record.weight *= verdict.factor;
  record.is_usual = verdict.is_within_zeroing;
  record.is_within = verdict.is_within_clipping;
}

// Collective. What the bounds of this round did; a rejected update is beyond both.
NormRound FederatedTrainer::State::move_bounds(const std::vector<ClientRecord>& records) {
  NormRound round = norms->bounds();
  std::array<std::int64_t, 2> counts{};  // of zeroing and of clipping
  for (const ClientRecord& record : records) {
    counts[0] += record.is_usual ? kHalfCount : -kHalfCount;
    counts[1] += record.is_within ? kHalfCount : -kHalfCount;
    if (record.rejection == Rejection::kNone) {
      const bool is_zeroed = record.weight == 0.0;
      round.zeroed += is_zeroed ? 1 : 0;
      round.clipped += round.clipping && !is_zeroed && !record.is_within ? 1 : 0;
    }
  }
  if (options.norms.count_noise > 0.0) {
    std::array<std::int64_t, 2> noise{};
    if (world.rank() == 0) {
      noise = {norms->zeroing_noise(rounds_done), norms->clipping_noise(rounds_done)};
    }
    world.set_phase("privacy");
    world.broadcast(std::span<std::int64_t>(noise), 0);
    world.set_phase("compute");
    counts[0] += noise[0];
    counts[1] += noise[1];
  }
  if (!records.empty()) {
    norms->move(counts[0], counts[1], static_cast<std::int64_t>(records.size()));
  }
  return round;
}

}  // namespace superstep::worker
