// Renyi differential privacy of the Poisson-subsampled Gaussian mechanism, composed over rounds.
//
// Mironov, Talwar, Zhang 2019, "Renyi Differential Privacy of the Sampled Gaussian Mechanism";
// adjacency: one client is added or removed; every client takes part in a round by itself with
// probability q; noise of deviation sigma times the sensitivity is added to the sum.
//
//   RdpAccountant accountant(default_rdp_orders());
//   accountant.compose({.sampling = 0.01, .noise = 1.1}, 1000);
//   PrivacySpent spent = accountant.epsilon(1e-5);
//
// Two conversions from an order's divergence to epsilon are in use; both are offered and named:
//   kImproved  rdp + log(1 - 1/a) - log(delta a) / (a - 1)   (Canonne, Kamath, Steinke 2020, prop.
//   12) kClassic   rdp - log(delta) / (a - 1)                    (Mironov 2017, prop. 3)
//
// Integer orders are sums of positive terms; fractional orders are the two alternating series of
// the paper with the sign of their binomial coefficients. An order whose value overflows counts as
// infinite, which is never wrong.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace superstep::worker {

// One application of the mechanism.
struct GaussianRound {
  double sampling = 1.0;  // q, in (0, 1]
  double noise = 1.0;     // sigma over sensitivity, above 0
};

enum class RdpConversion : std::uint8_t { kImproved, kClassic };

struct PrivacySpent {
  double epsilon = 0.0;
  double order = 0.0;  // the one that gives it
};

// 1.1 to 10.9 in tenths, 11 to 63, 128, 256, 512, 1024.
std::vector<double> default_rdp_orders();

// Divergence of one round at one order > 1. Throws InvalidArgument for a round or order outside its
// range.
double gaussian_rdp(const GaussianRound& round, double order);

class RdpAccountant {
 public:
  // Throws InvalidArgument unless every order is above 1.
  explicit RdpAccountant(std::vector<double> orders);

  void compose(const GaussianRound& round, std::int64_t times = 1);
  // Smallest epsilon over the orders. Infinite when nothing bounds it; 0 before the first round.
  PrivacySpent epsilon(double delta, RdpConversion conversion = RdpConversion::kImproved) const;

  std::span<const double> orders() const { return orders_; }
  std::span<const double> divergences() const { return divergences_; }

 private:
  std::vector<double> orders_;
  std::vector<double> divergences_;
  GaussianRound last_;  // its divergences are kept: runs compose the same round again and again
  std::vector<double> last_divergences_;
};

}  // namespace superstep::worker
