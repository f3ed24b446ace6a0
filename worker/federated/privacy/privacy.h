// User-level differential privacy of a federated run: DP-FedAvg (McMahan, Ramage, Talwar, Zhang
// 2018) with noise in the integer ring.
//
// The unit is the client. The whole update of a client is clipped to an L2 norm (flat, or adapted
// to a quantile of norms: Andrew, Thakkar, McMahan, Ramaswamy 2021), clients weigh the same (or at
// most the same, by a cap), the sum is divided by a fixed number that no data decide, and discrete
// Gaussian noise is added once to every element of the sum, by the owner of its shard, whatever the
// number of ranks.
//
// Sampling must be the one that is accounted for: Poisson, add/remove adjacency. Everything else is
// refused before the first round. What the ledger says holds for the published models; training
// loss, rejected clients and evaluation on private data are not covered and are for the simulation
// only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "paramserver/discrete_gaussian.h"
#include "paramserver/ring.h"
#include "worker/federated/privacy/noise_source.h"
#include "worker/federated/privacy/norm_quantile.h"
#include "worker/federated/privacy/rdp.h"

namespace superstep::worker {

enum class PrivacyKind : std::uint8_t { kNone, kDpFedAvg };
enum class Clipping : std::uint8_t { kFlat, kAdaptive };
std::string_view name_of(PrivacyKind kind);
std::string_view name_of(Clipping clipping);

struct PrivacyOptions {
  PrivacyKind kind = PrivacyKind::kNone;
  double clip = 1.0;              // first bound of the norm
  double noise_multiplier = 1.0;  // z: deviation of the sum's noise over the bound; 0: no privacy
  double delta = 1e-5;
  Clipping clipping = Clipping::kFlat;
  double target_quantile = 0.5;  // kAdaptive: this part of the norms lies below the bound
  double clip_learning_rate = 0.2;
  double count_noise =
      0.0;  // kAdaptive: deviation on the count of norms, in clients; 0: cohort / 20
  double weight_cap = 0.0;  // weight min(samples, cap) / cap; 0: every client weighs 1
  NoiseSource noise_source = NoiseSource::kSystem;
  // The expected cohort of the deployment that is simulated, at least the cohort of the run; 0: the
  // same. Noise is scaled down so that the mean of the smaller cohort has that of the larger one,
  // and the accounts are those of the larger one (McMahan et al. 2018, section 4).
  std::int64_t noise_cohort = 0;
  // The tight epsilon after every k-th round too, some seconds each; 0: after the last one only.
  std::int64_t pld_every_rounds = 0;
  // Rounds that earlier starts executed, as the ledger has them: rounds that are done again after a
  // fault have drawn noise twice, and count twice.
  std::int64_t executed_rounds = 0;
};

// Throws InvalidArgument that names the field.
void validate(const PrivacyOptions& options);

// noise_cohort where it is set.
std::int64_t accounted_cohort(const PrivacyOptions& options, std::int64_t cohort);

// z of the updates alone. kAdaptive: updates and counts share the budget, 1 / z^2 = 1 / z_updates^2
// + 1 / (2 count_noise)^2 (Andrew et al. 2021, theorem 1). Throws InvalidArgument when the counts
// alone would spend it.
double update_noise_multiplier(const PrivacyOptions& options, std::int64_t cohort);

// Largest bound of norms in a run: kAdaptive stops at `update_bound`, or at its first value if that
// is larger, so that the ring can be chosen before the first round.
double most_clip(const PrivacyOptions& options, double update_bound);

// What a run is, as far as its privacy goes.
struct PrivacySetting {
  std::int64_t cohort = 1;        // the expected size qN
  std::int64_t population = 1;    // N
  std::int64_t num_elements = 1;  // of an update
  double most_clip = 0.0;
  double mean_weight = 1.0;  // of all clients: below 1 with a cap
};

// Of a client with so many samples: 1, or with a cap min(samples, cap) / cap.
double private_weight(const PrivacyOptions& options, std::int64_t samples);

// What a round cost, for the ledger.
struct PrivacyRound {
  double clip = 0.0;              // used in this round
  double noise_multiplier = 0.0;  // z, for updates and counts together
  double update_noise_multiplier = 0.0;
  double ring_deviation = 0.0;   // on every element of the sum, in units of the ring
  double count_deviation = 0.0;  // kAdaptive: on the count of norms, in clients
  NoiseSource noise_source = NoiseSource::kSystem;
  std::int64_t executed_rounds = 0;  // this one included
  std::int64_t cohort = 0;           // expected size
  std::int64_t noise_cohort = 0;     // expected size that the accounts are of
  double sampling = 0.0;             // q
  double delta = 0.0;
  PrivacySpent rdp;
  double rdp_classic = 0.0;
  std::optional<double> pld;  // where it was asked for
};

class PrivacyEngine {
 public:
  PrivacyEngine(const PrivacyOptions& options, const PrivacySetting& setting,
                const paramserver::RingFormat& ring, std::uint64_t seed);

  double weight_of(std::int64_t samples) const { return private_weight(options_, samples); }
  // What an update of this norm is multiplied with; 1 within the bound.
  double factor(double norm) const;
  bool is_within(double norm) const { return bound_.contains(norm); }

  double clip() const { return bound_.estimate(); }
  void set_clip(double clip) { bound_.set_estimate(clip); }
  // Of the sum: the expected weight of a cohort, q times that of all clients (the estimator f~_f of
  // McMahan et al. 2018).
  double divisor() const { return static_cast<double>(setting_.cohort) * setting_.mean_weight; }
  // Deviation of the noise on every element of the sum, in units of the ring.
  double ring_deviation() const;
  // Adds noise to the elements [begin, begin + sums.size()) of the sum of round `round`.
  void add_noise(std::int64_t round, std::int64_t begin, std::span<std::int64_t> sums) const;

  // Noise on the count of norms, in units of 1 / (2 kHalfCount); one rank draws it and tells the
  // others.
  std::int64_t count_noise(std::int64_t round) const;
  // Moves the bound, given the noisy sum over clients of (within bound ? kHalfCount : -kHalfCount).
  void adapt(std::int64_t noisy_centered_count);

  // Adds one round to the accounts.
  void account();
  void account(std::int64_t rounds);  // after a resume
  std::int64_t executed_rounds() const { return rounds_; }
  PrivacyRound spent(double clip_used) const;
  // Of the rounds accounted so far and `further` ones; costs up to some seconds.
  double pld(std::int64_t further = 0) const;

 private:
  GaussianRound mechanism() const;
  std::int64_t accounted() const { return accounted_cohort(options_, setting_.cohort); }
  // Of the noise that the accounts are of, what the smaller cohort of the run gets.
  double noise_share() const;

  PrivacyOptions options_;
  PrivacySetting setting_;
  double update_noise_;  // z of the updates alone
  paramserver::RingFormat ring_;
  std::uint64_t seed_;
  NormQuantile bound_;
  RdpAccountant accountant_;
  std::int64_t rounds_ = 0;
};

}  // namespace superstep::worker
