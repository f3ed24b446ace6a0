#include "worker/federated/privacy/rdp.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::worker {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void require_round(const GaussianRound& round) {
  if (!(round.sampling > 0.0 && round.sampling <= 1.0)) {
    throw InvalidArgument("gaussian_rdp", fmt::format("sampling: got {}, expected a number in "
                                                      "(0, 1]",
                                                      round.sampling));
  }
  if (!(round.noise > 0.0) || !std::isfinite(round.noise)) {
    throw InvalidArgument(
        "gaussian_rdp",
        fmt::format("noise: got {}, expected a finite number above 0", round.noise));
  }
}

double log_add(double a, double b) {
  const double most = std::max(a, b);
  return most == -kInfinity ? -kInfinity : most + std::log1p(std::exp(std::min(a, b) - most));
}

// log(exp(a) - exp(b)) for a >= b.
double log_subtract(double a, double b) {
  return a > b ? a + std::log(-std::expm1(b - a)) : -kInfinity;
}

// log of erfc(x), also where erfc underflows (asymptotic series, Abramowitz and Stegun 7.1.23).
double log_erfc(double x) {
  if (x < 25.0) {
    return std::log(std::erfc(x));
  }
  const double y = 1.0 / (2.0 * x * x);
  const double series = 1.0 - y + 3.0 * y * y - 15.0 * y * y * y;
  return -x * x - std::log(x * std::sqrt(std::acos(-1.0))) + std::log(series);
}

// log A of the paper, for an integer order.
double log_moment_integer(const GaussianRound& round, int order) {
  const double log_q = std::log(round.sampling);
  const double log_rest = std::log1p(-round.sampling);
  double log_binomial = 0.0;
  double sum = -kInfinity;
  for (int k = 0; k <= order; ++k) {
    const double exponent = static_cast<double>(k) * (k - 1) / (2.0 * round.noise * round.noise);
    sum = log_add(sum, log_binomial + k * log_q + (order - k) * log_rest + exponent);
    log_binomial += std::log(static_cast<double>(order - k)) - std::log(static_cast<double>(k + 1));
  }
  return sum;
}

// log A for a fractional order: two series of alternating signs, added apart by sign.
double log_moment_fractional(const GaussianRound& round, double order) {
  const double q = round.sampling;
  const double sigma = round.noise;
  const double log_q = std::log(q);
  const double log_rest = std::log1p(-q);
  const double z = sigma * sigma * std::log(1.0 / q - 1.0) + 0.5;
  const double scale = std::sqrt(2.0) * sigma;
  double positive = -kInfinity;
  double negative = -kInfinity;
  double log_binomial = 0.0;  // of the absolute value
  double sign = 1.0;
  constexpr int kMostTerms = 100000;
  constexpr double kNegligible = -45.0;
  constexpr int kTermsBetweenChecks = 64;  // the check costs a third of a term
  for (int i = 0; i < kMostTerms; ++i) {
    const double j = order - i;
    const double left = log_binomial + i * log_q + j * log_rest +
                        i * (static_cast<double>(i) - 1.0) / (2.0 * sigma * sigma) + std::log(0.5) +
                        log_erfc((i - z) / scale);
    const double right = log_binomial + j * log_q + i * log_rest +
                         j * (j - 1.0) / (2.0 * sigma * sigma) + std::log(0.5) +
                         log_erfc((z - j) / scale);
    double& sum = sign > 0.0 ? positive : negative;
    sum = log_add(sum, log_add(left, right));
    if (i > order && i % kTermsBetweenChecks == 0 &&
        std::max(left, right) < log_add(positive, negative) + kNegligible) {
      break;
    }
    const double next =
        order - i;  // binomial(order, i + 1) = binomial(order, i) * (order - i) / (i + 1)
    sign *= next < 0.0 ? -1.0 : 1.0;
    log_binomial += std::log(std::abs(next)) - std::log(i + 1.0);
  }
  return log_subtract(positive, negative);
}

double convert(double divergence, double order, double delta, RdpConversion conversion) {
  if (conversion == RdpConversion::kClassic) {
    return divergence - std::log(delta) / (order - 1.0);
  }
  return divergence + std::log1p(-1.0 / order) - std::log(delta * order) / (order - 1.0);
}

}  // namespace

std::vector<double> default_rdp_orders() {
  std::vector<double> orders;
  for (int tenths = 11; tenths < 110; ++tenths) {
    orders.push_back(static_cast<double>(tenths) / 10.0);
  }
  for (int order = 11; order < 64; ++order) {
    orders.push_back(order);
  }
  for (const int order : {128, 256, 512, 1024}) {
    orders.push_back(order);
  }
  return orders;
}

double gaussian_rdp(const GaussianRound& round, double order) {
  require_round(round);
  if (!(order > 1.0) || !std::isfinite(order)) {
    throw InvalidArgument("gaussian_rdp",
                          fmt::format("order: got {}, expected a finite number above 1", order));
  }
  if (round.sampling == 1.0) {
    return order / (2.0 * round.noise * round.noise);
  }
  const bool is_integer = order == std::floor(order);
  const double moment = is_integer ? log_moment_integer(round, static_cast<int>(order))
                                   : log_moment_fractional(round, order);
  return std::isnan(moment) ? kInfinity : std::max(0.0, moment / (order - 1.0));
}

RdpAccountant::RdpAccountant(std::vector<double> orders)
    : orders_(std::move(orders)), divergences_(orders_.size(), 0.0) {
  for (const double order : orders_) {
    if (!(order > 1.0)) {
      throw InvalidArgument("RdpAccountant",
                            fmt::format("order: got {}, expected a number above 1", order));
    }
  }
}

void RdpAccountant::compose(const GaussianRound& round, std::int64_t times) {
  if (last_divergences_.empty() || last_.sampling != round.sampling || last_.noise != round.noise) {
    last_divergences_.clear();
    for (const double order : orders_) {
      last_divergences_.push_back(gaussian_rdp(round, order));
    }
    last_ = round;
  }
  for (std::size_t i = 0; i < orders_.size(); ++i) {
    divergences_[i] += static_cast<double>(times) * last_divergences_[i];
  }
}

PrivacySpent RdpAccountant::epsilon(double delta, RdpConversion conversion) const {
  if (!(delta > 0.0 && delta < 1.0)) {
    throw InvalidArgument("RdpAccountant::epsilon",
                          fmt::format("delta: got {}, expected a number in (0, 1)", delta));
  }
  if (last_divergences_.empty()) {
    return {};
  }
  PrivacySpent best{.epsilon = kInfinity, .order = 0.0};
  for (std::size_t i = 0; i < orders_.size(); ++i) {
    const double epsilon = std::max(0.0, convert(divergences_[i], orders_[i], delta, conversion));
    if (epsilon < best.epsilon) {
      best = {.epsilon = epsilon, .order = orders_[i]};
    }
  }
  return best;
}

}  // namespace superstep::worker
