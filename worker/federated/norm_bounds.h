// Bounds on the norms of updates, which a robust federated run keeps without seeing single updates.
//
// Zeroing leaves out an update with an element beyond a bound: it enters the sum as zeros, and its
// client still counts in the divisor. Clipping then scales an update down to an L2 norm. A bound
// stays as it is, or follows a quantile of the norms that clients tell the server one bit about
// (privacy/norm_quantile.h), with Gaussian noise on the sum of bits where the quantile is to be
// private: a client moves that sum by 1/2, so that a round of it is a Gaussian mechanism of noise
// multiplier 2 * count_noise. Nothing accounts for it: a run whose updates are to be private has
// bounds of its own (privacy/privacy.h), and the two exclude each other.
//
// The bits of a run do not depend on ranks; noise from the system makes runs differ.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "worker/federated/privacy/norm_quantile.h"

namespace superstep::worker {

enum class NormBound : std::uint8_t { kNone, kFlat, kAdaptive };
std::string_view name_of(NormBound bound);

struct NormBoundOptions {
  NormBound kind = NormBound::kNone;
  double norm = 1.0;      // the bound; kAdaptive: first estimate of the quantile
  double quantile = 0.5;  // kAdaptive
};

struct NormOptions {
  NormBoundOptions zeroing{.norm = 10.0, .quantile = 0.98};  // of the largest absolute element
  NormBoundOptions clipping{.norm = 1.0, .quantile = 0.8};   // of the L2 norm
  double count_noise = 0.0;  // deviation on each count of clients; 0: none
  NoiseSource noise_source = NoiseSource::kSystem;
};
bool is_bounded(const NormOptions& options);
// Throws InvalidArgument that names the field.
void validate(const NormOptions& options);

// What a client's norms are in a round.
struct NormVerdict {
  double factor = 1.0;  // of its weight in the sum; 0: zeroed
  bool is_within_zeroing = false;
  bool is_within_clipping = false;
};

// Of a round: bounds as they were, and how many clients they touched.
struct NormRound {
  std::optional<double> zeroing;
  std::optional<double> clipping;
  std::int64_t zeroed = 0;
  std::int64_t clipped = 0;
};

class NormBounds {
 public:
  // Elements of updates are at most `most_element`, and `num_elements` of them.
  NormBounds(const NormOptions& options, double most_element, std::int64_t num_elements,
             std::uint64_t seed);

  NormVerdict judge(double largest_element, double l2_norm) const;
  NormRound bounds() const;

  // One for each adaptive bound and round; one rank draws them and tells the others.
  std::int64_t zeroing_noise(std::int64_t round) const;
  std::int64_t clipping_noise(std::int64_t round) const;
  // Moves the bounds, given the noisy sums over clients of (within ? kHalfCount : -kHalfCount).
  void move(std::int64_t zeroing_count, std::int64_t clipping_count, std::int64_t clients);

  // For checkpoints.
  NormQuantile& zeroing_quantile() { return zeroing_; }
  NormQuantile& clipping_quantile() { return clipping_; }

 private:
  double zeroing_bound() const;

  NormOptions options_;
  std::uint64_t seed_;
  NormQuantile zeroing_;
  NormQuantile clipping_;
};

}  // namespace superstep::worker
