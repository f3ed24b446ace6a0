#include "worker/federated/privacy/pld.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <unsupported/Eigen/FFT>

#include "base/check.h"
#include "base/error.h"

namespace superstep::worker {

namespace {

// Upper tail of the standard normal distribution.
double tail(double x) {
  return 0.5 * std::erfc(x / std::sqrt(2.0));
}

enum class Adjacency : std::uint8_t { kRemove, kAdd };

// delta(epsilon) of one round in one direction.
class RoundCurve {
 public:
  RoundCurve(const GaussianRound& round, Adjacency adjacency)
      : q_(round.sampling), sigma_(round.noise), adjacency_(adjacency) {}

  double delta(double epsilon) const {
    return adjacency_ == Adjacency::kRemove ? delta_remove(epsilon) : delta_add(epsilon);
  }

 private:
  // Where the likelihood ratio 1 - q + q exp((2 x - 1) / (2 sigma^2)) is `ratio`.
  double crossing(double ratio) const {
    return sigma_ * sigma_ * std::log((ratio - (1.0 - q_)) / q_) + 0.5;
  }

  // Upper: with the client, lower: without. P = (1 - q) N(0) + q N(1), Q = N(0).
  double delta_remove(double epsilon) const {
    const double ratio = std::exp(epsilon);
    if (ratio <= 1.0 - q_) {
      return -std::expm1(epsilon);
    }
    const double t = crossing(ratio);
    return q_ * tail((t - 1.0) / sigma_) - (ratio - (1.0 - q_)) * tail(t / sigma_);
  }

  // P = N(0), Q = (1 - q) N(0) + q N(1); the loss is at most -log(1 - q).
  double delta_add(double epsilon) const {
    const double ratio = std::exp(-epsilon);
    if (ratio <= 1.0 - q_) {
      return 0.0;
    }
    const double t = crossing(ratio);
    const double below_zero = tail(-t / sigma_);
    const double below_one = tail((1.0 - t) / sigma_);
    return below_zero - std::exp(epsilon) * ((1.0 - q_) * below_zero + q_ * below_one);
  }

  double q_;
  double sigma_;
  Adjacency adjacency_;
};

// Masses on losses first * grid, (first + 1) * grid, ... and at infinity.
struct LossDistribution {
  std::int64_t first = 0;
  std::vector<double> masses;
  double infinite = 0.0;
};

// Losses of one round beyond which less than `mass` lies. Both come from the normal tails: the
// output x of the mechanism is within `reach` deviations of 0 or 1.
std::pair<double, double> loss_range(const GaussianRound& round, Adjacency adjacency, double mass) {
  double reach = 1.0;
  while (tail(reach) > 0.25 * mass) {
    reach += 0.25;
  }
  const auto loss = [&](double x) {
    const double exponent = (2.0 * x - 1.0) / (2.0 * round.noise * round.noise);
    // log(1 - q + q e^exponent) without overflow.
    return exponent > 0.0
               ? exponent + std::log(round.sampling + (1.0 - round.sampling) * std::exp(-exponent))
               : std::log1p(round.sampling * std::expm1(exponent));
  };
  const double low = loss(-reach * round.noise);
  const double high = loss(1.0 + reach * round.noise);
  return adjacency == Adjacency::kRemove ? std::pair(low, high) : std::pair(-high, -low);
}

// Connecting the dots. With x = exp(epsilon) the curve of a discrete distribution is linear between
// losses, with slope -sum over higher losses of mass / exp(loss); so masses are differences of
// slopes.
LossDistribution discretize(const GaussianRound& round, Adjacency adjacency, double grid,
                            double mass) {
  const RoundCurve curve(round, adjacency);
  const auto [low, high] = loss_range(round, adjacency, mass);
  LossDistribution result;
  result.first = static_cast<std::int64_t>(std::floor(low / grid));
  const std::int64_t last = static_cast<std::int64_t>(std::ceil(high / grid));
  const auto count = static_cast<std::size_t>(last - result.first + 1);
  std::vector<double> deltas(count);
  for (std::size_t i = 0; i < count; ++i) {
    deltas[i] =
        curve.delta(static_cast<double>(result.first + static_cast<std::int64_t>(i)) * grid);
  }
  // -slope * x_i of the pieces to the right and to the left of point i, with the step in x written
  // as x_i (e^grid - 1).
  const double right_step = std::expm1(grid);
  const double left_step = -std::expm1(-grid);
  result.masses.resize(count);
  result.infinite = std::max(0.0, deltas.back());
  double sum = result.infinite;
  for (std::size_t i = count - 1; i > 0; --i) {
    const double right = i + 1 < count ? (deltas[i] - deltas[i + 1]) / right_step : 0.0;
    const double left = (deltas[i - 1] - deltas[i]) / left_step;
    result.masses[i] = std::max(0.0, left - right);
    sum += result.masses[i];
  }
  result.masses[0] = std::max(0.0, 1.0 - sum);
  return result;
}

// The finite losses that have a mass, with its logarithm, which every exponent needs.
struct WeightedLoss {
  double value = 0.0;
  double log_mass = 0.0;
};
std::vector<WeightedLoss> weighted_losses(const LossDistribution& loss, double grid) {
  std::vector<WeightedLoss> weighted;
  for (std::size_t i = 0; i < loss.masses.size(); ++i) {
    if (loss.masses[i] > 0.0) {
      weighted.push_back({static_cast<double>(loss.first + static_cast<std::int64_t>(i)) * grid,
                          std::log(loss.masses[i])});
    }
  }
  return weighted;
}

// log of the moment generating function of the losses at `exponent`.
double log_moment(std::span<const WeightedLoss> losses, double exponent) {
  double most = -std::numeric_limits<double>::infinity();
  for (const WeightedLoss& loss : losses) {
    most = std::max(most, loss.log_mass + exponent * loss.value);
  }
  double sum = 0.0;
  for (const WeightedLoss& loss : losses) {
    sum += std::exp(loss.log_mass + exponent * loss.value - most);
  }
  return most + std::log(sum);
}

// Chernoff: P(sum of losses >= b) <= exp(times * log_moment(a) - a b); the smallest b over a row of
// exponents for which that is `mass`. With sign -1 the lower tail, mirrored.
double chernoff_bound(std::span<const WeightedLoss> losses, std::int64_t times, double mass,
                      double sign) {
  double best = std::numeric_limits<double>::infinity();
  double previous = best;
  for (double exponent = 0.05; exponent < 2000.0; exponent *= 1.4) {
    const double bound =
        (static_cast<double>(times) * log_moment(losses, sign * exponent) - std::log(mass)) /
        exponent;
    best = std::min(best, bound);
    if (bound > previous) {
      break;  // convex in the exponent
    }
    previous = bound;
  }
  return best;
}

LossDistribution compose(const LossDistribution& loss, double grid, std::int64_t times,
                         double tail_mass) {
  const std::vector<WeightedLoss> weighted = weighted_losses(loss, grid);
  const double high = chernoff_bound(weighted, times, 0.5 * tail_mass, 1.0);
  const double low = -chernoff_bound(weighted, times, 0.5 * tail_mass, -1.0);
  const auto first = static_cast<std::int64_t>(std::floor(low / grid)) - 1;
  const auto needed = static_cast<std::int64_t>(std::ceil(high / grid)) + 2 - first;
  constexpr std::int64_t kMostPoints = std::int64_t{1} << 25;
  std::int64_t size = 1024;
  while (size < needed && size <= kMostPoints) {
    size *= 2;
  }
  if (size > kMostPoints) {
    throw InvalidArgument("pld_epsilon",
                          fmt::format("the window of losses needs {} points, expected at most {}: "
                                      "a grid coarser than {} would do",
                                      needed, kMostPoints, grid));
  }
  std::vector<double> wrapped(static_cast<std::size_t>(size), 0.0);
  for (std::size_t i = 0; i < loss.masses.size(); ++i) {
    const std::int64_t index = (loss.first + static_cast<std::int64_t>(i)) % size;
    wrapped[static_cast<std::size_t>(index < 0 ? index + size : index)] += loss.masses[i];
  }
  Eigen::FFT<double> fft;
  fft.SetFlag(Eigen::FFT<double>::HalfSpectrum);
  std::vector<std::complex<double>> spectrum;
  fft.fwd(spectrum, wrapped);
  for (std::complex<double>& value : spectrum) {
    value = std::abs(value) > 0.0 ? std::exp(static_cast<double>(times) * std::log(value))
                                  : std::complex<double>(0.0, 0.0);
  }
  fft.inv(wrapped, spectrum, static_cast<Eigen::Index>(size));
  LossDistribution result{.first = first, .masses = {}, .infinite = 0.0};
  result.infinite =
      -std::expm1(static_cast<double>(times) * std::log1p(-loss.infinite)) + tail_mass;
  result.masses.resize(wrapped.size());
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int64_t index = (first + i) % size;
    result.masses[static_cast<std::size_t>(i)] =
        std::max(0.0, wrapped[static_cast<std::size_t>(index < 0 ? index + size : index)]);
  }
  return result;
}

// The smallest epsilon >= 0 with delta(epsilon) <= delta, where
// delta(e) = infinite + sum over losses l > e of mass * (1 - exp(e - l)).
double epsilon_of(const LossDistribution& loss, double grid, double delta) {
  if (loss.infinite > delta) {
    return std::numeric_limits<double>::infinity();
  }
  double above = loss.infinite;  // mass of losses above
  double scaled = 0.0;           // sum of mass * exp(-loss) of them
  for (std::size_t i = loss.masses.size(); i-- > 0;) {
    const double value = static_cast<double>(loss.first + static_cast<std::int64_t>(i)) * grid;
    // With epsilon just at this loss, only higher ones count.
    if (above - std::exp(value) * scaled > delta || value < 0.0) {
      return above - scaled > delta || value >= 0.0
                 ? std::max(0.0, std::log((above - delta) / scaled))
                 : 0.0;
    }
    above += loss.masses[i];
    scaled += loss.masses[i] * std::exp(-value);
  }
  return above > delta && scaled > 0.0 ? std::max(0.0, std::log((above - delta) / scaled)) : 0.0;
}

void require_arguments(const GaussianRound& round, std::int64_t times, double delta,
                       const PldOptions& options) {
  gaussian_rdp(round, 2.0);  // checks the round
  constexpr auto kWhere = "pld_epsilon";
  if (times < 0) {
    throw InvalidArgument(kWhere, fmt::format("times: got {}, expected at least 0", times));
  }
  if (!(delta > 0.0 && delta < 1.0)) {
    throw InvalidArgument(kWhere, fmt::format("delta: got {}, expected a number in (0, 1)", delta));
  }
  if (!(options.grid > 0.0 && options.grid < 1.0)) {
    throw InvalidArgument(kWhere,
                          fmt::format("grid: got {}, expected a number in (0, 1)", options.grid));
  }
}

}  // namespace

double pld_epsilon(const GaussianRound& round, std::int64_t times, double delta,
                   const PldOptions& options) {
  require_arguments(round, times, delta, options);
  if (times == 0) {
    return 0.0;
  }
  const double tail_mass = delta * options.tail_of_delta;
  double epsilon = 0.0;
  for (const Adjacency adjacency : {Adjacency::kRemove, Adjacency::kAdd}) {
    const LossDistribution one =
        discretize(round, adjacency, options.grid, tail_mass / static_cast<double>(times));
    epsilon = std::max(
        epsilon, epsilon_of(compose(one, options.grid, times, tail_mass), options.grid, delta));
  }
  return epsilon;
}

double gaussian_delta(double noise, double epsilon) {
  const double s = 1.0 / noise;
  return tail(epsilon * noise - 0.5 * s) - std::exp(epsilon) * tail(epsilon * noise + 0.5 * s);
}

}  // namespace superstep::worker
