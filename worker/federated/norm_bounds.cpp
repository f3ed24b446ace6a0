#include "worker/federated/norm_bounds.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

// TensorFlow Federated's robust aggregation: an update is left out beyond twice the quantile and
// one, and that quantile moves by a factor of 10 at most.
constexpr double kZeroingFactor = 2.0;
constexpr double kZeroingMargin = 1.0;
constexpr double kZeroingLearningRate = 2.302585092994046;  // ln 10
constexpr double kClippingLearningRate = 0.2;

void validate_bound(const NormBoundOptions& options, std::string_view name) {
  if (options.kind == NormBound::kNone) {
    return;
  }
  require_field("NormOptions", options.norm > 0.0, fmt::format("{} norm", name), options.norm,
                "a number above 0");
  require_field("NormOptions", options.quantile > 0.0 && options.quantile < 1.0,
                fmt::format("{} quantile", name), options.quantile, "a number in (0, 1)");
}

std::int64_t noise_of(const NormOptions& options, NormBound kind, const PhiloxStream& test) {
  return kind == NormBound::kAdaptive
             ? noise_of_counts(options.count_noise, options.noise_source, test)
             : 0;
}

}  // namespace

std::string_view name_of(NormBound bound) {
  switch (bound) {
    case NormBound::kNone:
      return "none";
    case NormBound::kFlat:
      return "flat";
    case NormBound::kAdaptive:
      return "adaptive";
  }
  return "unknown";
}

bool is_bounded(const NormOptions& options) {
  return options.zeroing.kind != NormBound::kNone || options.clipping.kind != NormBound::kNone;
}

void validate(const NormOptions& options) {
  validate_bound(options.zeroing, "zeroing");
  validate_bound(options.clipping, "clipping");
  require_field("NormOptions", options.count_noise >= 0.0 && options.count_noise <= kMostCountNoise,
                "count_noise", options.count_noise, "0 to 2^36");
}

NormBounds::NormBounds(const NormOptions& options, double most_element, std::int64_t num_elements,
                       std::uint64_t seed)
    : options_(options),
      seed_(seed),
      zeroing_({.first = options.zeroing.norm,
                .target = options.zeroing.quantile,
                .learning_rate = kZeroingLearningRate,
                .most = std::max(options.zeroing.norm, most_element)}),
      clipping_({.first = options.clipping.norm,
                 .target = options.clipping.quantile,
                 .learning_rate = kClippingLearningRate,
                 .most = std::max(options.clipping.norm,
                                  most_element * std::sqrt(static_cast<double>(num_elements)))}) {
  validate(options_);
}

double NormBounds::zeroing_bound() const {
  return options_.zeroing.kind == NormBound::kAdaptive
             ? kZeroingFactor * zeroing_.estimate() + kZeroingMargin
             : zeroing_.estimate();
}

NormVerdict NormBounds::judge(double largest_element, double l2_norm) const {
  NormVerdict verdict{.factor = 1.0,
                      .is_within_zeroing = zeroing_.contains(largest_element),
                      .is_within_clipping = clipping_.contains(l2_norm)};
  if (options_.zeroing.kind != NormBound::kNone && largest_element > zeroing_bound()) {
    verdict.factor = 0.0;
  } else if (options_.clipping.kind != NormBound::kNone && !verdict.is_within_clipping) {
    verdict.factor = clipping_.estimate() / l2_norm;
  }
  return verdict;
}

NormRound NormBounds::bounds() const {
  NormRound round;
  if (options_.zeroing.kind != NormBound::kNone) {
    round.zeroing = zeroing_bound();
  }
  if (options_.clipping.kind != NormBound::kNone) {
    round.clipping = clipping_.estimate();
  }
  return round;
}

std::int64_t NormBounds::zeroing_noise(std::int64_t round) const {
  return noise_of(options_, options_.zeroing.kind,
                  PhiloxStream(seed_, stream_id("test noise of zeroing, not private"), round));
}

std::int64_t NormBounds::clipping_noise(std::int64_t round) const {
  return noise_of(options_, options_.clipping.kind,
                  PhiloxStream(seed_, stream_id("test noise of clipping, not private"), round));
}

void NormBounds::move(std::int64_t zeroing_count, std::int64_t clipping_count,
                      std::int64_t clients) {
  if (options_.zeroing.kind == NormBound::kAdaptive) {
    zeroing_.move(zeroing_count, clients);
  }
  if (options_.clipping.kind == NormBound::kAdaptive) {
    clipping_.move(clipping_count, clients);
  }
}

}  // namespace superstep::worker
