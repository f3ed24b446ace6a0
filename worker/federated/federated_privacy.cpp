// What a private round adds: secret sampling, the account before the noise, the next bound.
#include <cmath>
#include <exception>
#include <limits>
#include <optional>

#include "paramserver/discrete_gaussian.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

// Sampling amplifies privacy only while nobody knows who takes part, and the seed of a run is no
// secret: the key of its cohorts is drawn from the kernel and lies in its checkpoints. Collective.
void FederatedTrainer::State::draw_secret_sampling() {
  if (options.privacy.noise_source != NoiseSource::kSystem) {
    return;
  }
  world.set_phase("privacy");
  auto key = static_cast<std::int64_t>(paramserver::SystemBits().bits64());
  world.broadcast(std::span<std::int64_t>(&key, 1), 0);
  world.set_phase("compute");
  sampling.seed = static_cast<std::uint64_t>(key);
}

// Epsilon by privacy loss distributions after `further` rounds more; no reason to fail. Collective.
std::optional<double> FederatedTrainer::State::agreed_pld(std::int64_t further) {
  double epsilon = std::numeric_limits<double>::quiet_NaN();
  if (world.rank() == 0) {
    try {
      epsilon = privacy->pld(further);
    } catch (const std::exception&) {
      // Memory, say: the ledger has the other accountant's bound.
    }
  }
  world.set_phase("privacy");
  world.broadcast(std::span<double>(&epsilon, 1), 0);
  world.set_phase("compute");
  return std::isnan(epsilon) ? std::nullopt : std::optional(epsilon);
}

// One more round on the account. The ledger hears of it before any noise is drawn, so that a round
// that a fault interrupts is in it.
void FederatedTrainer::State::open_private_round() {
  privacy->account();
  last_privacy = privacy->spent(privacy->clip());
  const std::int64_t every = options.privacy.pld_every_rounds;
  if (rounds_done + 1 == options.rounds) {
    last_privacy->pld = pld_at_end;
  } else if (every > 0 && (rounds_done + 1) % every == 0) {
    last_privacy->pld = agreed_pld(0);
  }
  if (observer != nullptr) {
    observer->on_private_round(rounds_done + 1, *last_privacy);
  }
}

// The next bound of norms.
void FederatedTrainer::State::adapt_clip(const std::vector<ClientRecord>& records) {
  if (options.privacy.clipping != Clipping::kAdaptive) {
    return;
  }
  std::int64_t centered = 0;
  for (const ClientRecord& record : records) {
    centered += record.is_within ? kHalfCount : -kHalfCount;  // a rejected norm is beyond
  }
  world.set_phase("privacy");
  std::int64_t count_noise = world.rank() == 0 ? privacy->count_noise(rounds_done) : 0;
  world.broadcast(std::span<std::int64_t>(&count_noise, 1), 0);
  world.set_phase("compute");
  privacy->adapt(centered + count_noise);
}

}  // namespace superstep::worker
