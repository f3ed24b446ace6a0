// A quantile of the norms of updates that the server follows without seeing one of them: every
// client says whether its norm is within the estimate, and only the sum of these answers, with
// noise where it is wanted, moves it (Andrew, Thakkar, McMahan, Ramaswamy 2021, section 2).
//
//   NormQuantile quantile({.first = 1.0, .target = 0.5, .learning_rate = 0.2, .most = 64.0});
//   sum += quantile.contains(norm) ? kHalfCount : -kHalfCount;   // over clients
//   quantile.move(sum + noise_of_counts(deviation, source, stream), clients);
#pragma once

#include <cstdint>

#include "base/philox.h"
#include "worker/federated/privacy/noise_source.h"

namespace superstep::worker {

// Half a client in the sum of counts. Counts and their noise lie on one lattice, which is so fine
// beside the noise that the sum says nothing but its value: with integer noise on sums of halves,
// the fraction would be the parity of the clients, unprotected.
inline constexpr std::int64_t kHalfCount = std::int64_t{1} << 20;

// The deviation that can be drawn on that lattice, in clients.
inline constexpr double kMostCountNoise = 0x1p36;

struct QuantileOptions {
  double first = 1.0;
  double target = 0.5;  // this part of the norms lies within
  double learning_rate = 0.2;
  double most = 1.0;  // the estimate stops there, and at 2^-40 of it
};

class NormQuantile {
 public:
  explicit NormQuantile(const QuantileOptions& options)
      : options_(options), estimate_(options.first) {}

  double estimate() const { return estimate_; }
  void set_estimate(double estimate) { estimate_ = estimate; }
  bool contains(double norm) const { return norm <= estimate_; }
  // Geometric, given the noisy sum over clients of (contains ? kHalfCount : -kHalfCount) and how
  // many clients it stands for.
  void move(std::int64_t noisy_centered_count, std::int64_t clients);

 private:
  QuantileOptions options_;
  double estimate_;
};

// In units of 1 / (2 kHalfCount); `deviation` in clients, 0: none. `test` is drawn from for kTest.
std::int64_t noise_of_counts(double deviation, NoiseSource source, const PhiloxStream& test);

}  // namespace superstep::worker
