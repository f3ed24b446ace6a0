#include "worker/federated/privacy/pld.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unsupported/Eigen/FFT>

#include "base/check.h"
#include "base/error.h"

namespace superstep::worker {

namespace {

// An FFT of so many points takes some seconds and half a gigabyte.
constexpr std::size_t kMostLossPoints = std::size_t{1} << 23;

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
    if (round.sampling == 1.0) {
      return exponent;
    }
    // log(1 - q + q e^exponent) without overflow.
    return exponent > 0.0
               ? exponent + std::log(round.sampling + (1.0 - round.sampling) * std::exp(-exponent))
               : std::log1p(round.sampling * std::expm1(exponent));
  };
  const double low = loss(-reach * round.noise);
  const double high = loss(1.0 + reach * round.noise);
  return adjacency == Adjacency::kRemove ? std::pair(low, high) : std::pair(-high, -low);
}

// Points of a grid from `low` to `high`, both included; nothing when they are too many.
std::optional<std::size_t> points_between(double low, double high, double grid) {
  const double count = std::ceil(high / grid) - std::floor(low / grid) + 4.0;
  return count <= static_cast<double>(kMostLossPoints)
             ? std::optional(static_cast<std::size_t>(count))
             : std::nullopt;
}

// Connecting the dots. With x = exp(epsilon) the curve of a discrete distribution is linear between
// losses, with slope -sum over higher losses of mass / exp(loss); so masses are differences of
// slopes. Nothing when the grid is too fine for `range`.
std::optional<LossDistribution> discretize(const RoundCurve& curve,
                                           const std::pair<double, double>& range, double grid) {
  const auto [low, high] = range;
  if (!points_between(low, high, grid)) {
    return std::nullopt;
  }
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

// Nothing when the grid is too fine for the window of the sum.
std::optional<LossDistribution> compose(const LossDistribution& loss, double grid,
                                        std::int64_t times, double tail_mass) {
  const std::vector<WeightedLoss> weighted = weighted_losses(loss, grid);
  const double high = chernoff_bound(weighted, times, 0.5 * tail_mass, 1.0);
  const double low = -chernoff_bound(weighted, times, 0.5 * tail_mass, -1.0);
  const std::optional<std::size_t> needed = points_between(low, high, grid);
  if (!needed) {
    return std::nullopt;
  }
  const auto first = static_cast<std::int64_t>(std::floor(low / grid)) - 1;
  const auto size = static_cast<std::int64_t>(std::max<std::size_t>(1024, std::bit_ceil(*needed)));
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
  const double step = std::exp(-grid);
  double above = loss.infinite;  // mass of losses above `value`
  double scaled = 0.0;           // sum of mass * exp(value - loss) of them: never overflows
  double value = 0.0;
  for (std::size_t i = loss.masses.size(); i-- > 0;) {
    value = static_cast<double>(loss.first + static_cast<std::int64_t>(i)) * grid;
    // With epsilon just at this loss, only higher ones count.
    if (above - scaled > delta || value < 0.0) {
      break;
    }
    above += loss.masses[i];
    scaled = (scaled + loss.masses[i]) * step;
    value -= grid;
  }
  // The crossing lies at or above `value`; there the sum is scaled * exp(epsilon - value).
  return above > delta && scaled > 0.0 ? std::max(0.0, value + std::log((above - delta) / scaled))
                                       : 0.0;
}

// Coarser and coarser from options.grid on; a wide round has no finite epsilon worth a number.
double epsilon_in_direction(const GaussianRound& round, Adjacency adjacency, std::int64_t times,
                            double delta, const PldOptions& options) {
  const double tail_mass = delta * options.tail_of_delta;
  const std::pair<double, double> range =
      loss_range(round, adjacency, tail_mass / static_cast<double>(times));
  constexpr double kMostLoss = 700.0;  // exp() of it is a double
  if (!(range.first >= -kMostLoss && range.second <= kMostLoss)) {
    return std::numeric_limits<double>::infinity();
  }
  const RoundCurve curve(round, adjacency);
  for (double grid = options.grid; grid < 1.0; grid *= 2.0) {
    if (const std::optional<LossDistribution> one = discretize(curve, range, grid)) {
      if (const std::optional<LossDistribution> all = compose(*one, grid, times, tail_mass)) {
        return epsilon_of(*all, grid, delta);
      }
    }
  }
  return std::numeric_limits<double>::infinity();
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
  return std::max(epsilon_in_direction(round, Adjacency::kRemove, times, delta, options),
                  epsilon_in_direction(round, Adjacency::kAdd, times, delta, options));
}

double gaussian_delta(double noise, double epsilon) {
  const double s = 1.0 / noise;
  return tail(epsilon * noise - 0.5 * s) - std::exp(epsilon) * tail(epsilon * noise + 0.5 * s);
}

}  // namespace superstep::worker
