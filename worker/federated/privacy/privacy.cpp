#include "worker/federated/privacy/privacy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "base/philox.h"
#include "worker/federated/privacy/pld.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

double count_deviation(const PrivacyOptions& options, std::int64_t cohort) {
  return options.count_noise > 0.0 ? options.count_noise : static_cast<double>(cohort) / 20.0;
}

}  // namespace

std::string_view name_of(PrivacyKind kind) {
  return kind == PrivacyKind::kNone ? "none" : "dp_fedavg";
}

std::string_view name_of(Clipping clipping) {
  return clipping == Clipping::kFlat ? "flat" : "adaptive";
}

void validate(const PrivacyOptions& options) {
  if (options.kind == PrivacyKind::kNone) {
    return;
  }
  require_field("PrivacyOptions", options.clip > 0.0, "clip", options.clip, "a number above 0");
  require_field("PrivacyOptions", options.noise_multiplier >= 0.0, "noise_multiplier",
                options.noise_multiplier, "a number of at least 0");
  require_field("PrivacyOptions", options.delta > 0.0 && options.delta < 1.0, "delta",
                options.delta, "a number in (0, 1)");
  require_field("PrivacyOptions", options.target_quantile > 0.0 && options.target_quantile < 1.0,
                "target_quantile", options.target_quantile, "a number in (0, 1)");
  require_field("PrivacyOptions", options.clip_learning_rate >= 0.0, "clip_learning_rate",
                options.clip_learning_rate, "a number of at least 0");
  require_field("PrivacyOptions",
                options.count_noise >= 0.0 && options.count_noise <= kMostCountNoise, "count_noise",
                options.count_noise, "0 to 2^36");
  require_field("PrivacyOptions", options.weight_cap >= 0.0, "weight_cap", options.weight_cap,
                "a number of at least 0");
  require_field("PrivacyOptions", options.noise_cohort >= 0, "noise_cohort",
                static_cast<double>(options.noise_cohort), "a number of at least 0");
}

std::int64_t accounted_cohort(const PrivacyOptions& options, std::int64_t cohort) {
  return options.noise_cohort > 0 ? options.noise_cohort : cohort;
}

double update_noise_multiplier(const PrivacyOptions& options, std::int64_t cohort) {
  const double z = options.noise_multiplier;
  if (options.clipping == Clipping::kFlat || z == 0.0) {
    return z;
  }
  const double deviation = count_deviation(options, accounted_cohort(options, cohort));
  if (2.0 * deviation <= z) {
    throw InvalidArgument(
        "PrivacyOptions",
        fmt::format("count_noise: got {}, expected more than half of the noise multiplier {}: "
                    "the counts alone would spend more than the whole budget",
                    deviation, z));
  }
  const double doubled = 2.0 * deviation;
  return 1.0 / std::sqrt(1.0 / (z * z) - 1.0 / (doubled * doubled));
}

double most_clip(const PrivacyOptions& options, double update_bound) {
  return options.clipping == Clipping::kFlat ? options.clip : std::max(options.clip, update_bound);
}

double private_weight(const PrivacyOptions& options, std::int64_t samples) {
  return options.weight_cap > 0.0
             ? std::min(static_cast<double>(samples), options.weight_cap) / options.weight_cap
             : 1.0;
}

PrivacyEngine::PrivacyEngine(const PrivacyOptions& options, const PrivacySetting& setting,
                             const paramserver::RingFormat& ring, std::uint64_t seed)
    : options_(options),
      setting_(setting),
      update_noise_(update_noise_multiplier(options, setting.cohort)),
      ring_(ring),
      seed_(seed),
      bound_({.first = options.clip,
              .target = options.target_quantile,
              .learning_rate = options.clip_learning_rate,
              .most = setting.most_clip}),
      accountant_(default_rdp_orders()) {
  validate(options_);
}

GaussianRound PrivacyEngine::mechanism() const {
  return {.sampling = static_cast<double>(accounted()) / static_cast<double>(setting_.population),
          .noise = options_.noise_multiplier};
}

double PrivacyEngine::noise_share() const {
  return static_cast<double>(setting_.cohort) / static_cast<double>(accounted());
}

// A hair below the bound, so that roundings in the norm never exceed it.
double PrivacyEngine::factor(double norm) const {
  constexpr double kHair = 1.0 - 0x1p-40;
  return bound_.contains(norm) ? 1.0 : clip() / norm * kHair;
}

// Rounding moves an update by up to sqrt(d) / 2 in the ring, which belongs to the sensitivity.
double PrivacyEngine::ring_deviation() const {
  const double rounding = 0.5 * std::sqrt(static_cast<double>(setting_.num_elements));
  return noise_share() * update_noise_ * (clip() / paramserver::unit(ring_) + rounding);
}

void PrivacyEngine::add_noise(std::int64_t round, std::int64_t begin,
                              std::span<std::int64_t> sums) const {
  const double deviation = ring_deviation();
  if (deviation == 0.0) {
    return;
  }
  if (options_.noise_source == NoiseSource::kSystem) {
    paramserver::SystemBits bits;
    for (std::int64_t& sum : sums) {
      sum += paramserver::discrete_gaussian(deviation, bits);
    }
    return;
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    paramserver::SeededBits bits(PhiloxStream(seed_, stream_id("test noise, not private"), round,
                                              begin + static_cast<std::int64_t>(i)));
    sums[i] += paramserver::discrete_gaussian(deviation, bits);
  }
}

std::int64_t PrivacyEngine::count_noise(std::int64_t round) const {
  if (options_.clipping == Clipping::kFlat || options_.noise_multiplier == 0.0) {
    return 0;
  }
  return noise_of_counts(
      noise_share() * count_deviation(options_, accounted()), options_.noise_source,
      PhiloxStream(seed_, stream_id("test noise of counts, not private"), round));
}

void PrivacyEngine::adapt(std::int64_t noisy_centered_count) {
  if (options_.clipping == Clipping::kAdaptive) {
    bound_.move(noisy_centered_count, setting_.cohort);
  }
}

void PrivacyEngine::account() {
  account(1);
}

void PrivacyEngine::account(std::int64_t rounds) {
  rounds_ += rounds;
  if (options_.noise_multiplier > 0.0 && rounds > 0) {
    accountant_.compose(mechanism(), rounds);
  }
}

PrivacyRound PrivacyEngine::spent(double clip_used) const {
  PrivacyRound round{.clip = clip_used,
                     .noise_multiplier = options_.noise_multiplier,
                     .update_noise_multiplier = update_noise_,
                     .ring_deviation = ring_deviation(),
                     .count_deviation = options_.clipping == Clipping::kAdaptive
                                            ? noise_share() * count_deviation(options_, accounted())
                                            : 0.0,
                     .noise_source = options_.noise_source,
                     .executed_rounds = rounds_,
                     .cohort = setting_.cohort,
                     .noise_cohort = accounted(),
                     .sampling = mechanism().sampling,
                     .delta = options_.delta,
                     .rdp = {},
                     .rdp_classic = 0.0,
                     .pld = {}};
  if (options_.noise_multiplier == 0.0) {
    round.rdp.epsilon = std::numeric_limits<double>::infinity();
    round.rdp_classic = round.rdp.epsilon;
    return round;
  }
  round.rdp = accountant_.epsilon(options_.delta);
  round.rdp_classic = accountant_.epsilon(options_.delta, RdpConversion::kClassic).epsilon;
  return round;
}

double PrivacyEngine::pld(std::int64_t further) const {
  return options_.noise_multiplier == 0.0
             ? std::numeric_limits<double>::infinity()
             : pld_epsilon(mechanism(), rounds_ + further, options_.delta);
}

}  // namespace superstep::worker
