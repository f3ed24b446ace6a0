#include "worker/federated/proportions.h"

#include <algorithm>
#include <cmath>

namespace superstep::worker {

namespace {

// exp(logs), scaled to sum to one. The largest becomes exp(0), so nothing overflows.
std::vector<double> normalized(std::vector<double> logs) {
  const double most = *std::max_element(logs.begin(), logs.end());
  double sum = 0.0;
  for (double& value : logs) {
    value = std::exp(value - most);
    sum += value;
  }
  for (double& value : logs) {
    value /= sum;
  }
  return logs;
}

double uniform_above_zero(PhiloxStream& stream) {
  return stream.uniform_double() + 0x1p-54;
}

}  // namespace

double log_gamma_variate(double alpha, PhiloxStream& stream) {
  if (alpha < 1.0) {
    // Gamma(alpha) = Gamma(alpha + 1) * U^(1 / alpha).
    const double larger = log_gamma_variate(alpha + 1.0, stream);
    return larger + std::log(uniform_above_zero(stream)) / alpha;
  }
  const double d = alpha - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = stream.normal();
    const double v = 1.0 + c * x;
    if (v <= 0.0) {
      continue;
    }
    const double cube = v * v * v;
    const double log_u = std::log(uniform_above_zero(stream));
    if (log_u < 0.5 * x * x + d - d * cube + d * std::log(cube)) {
      return std::log(d) + std::log(cube);
    }
  }
}

std::vector<double> dirichlet_proportions(std::int64_t count, double alpha, PhiloxStream stream) {
  std::vector<double> logs(static_cast<std::size_t>(count));
  for (double& value : logs) {
    value = log_gamma_variate(alpha, stream);
  }
  return normalized(std::move(logs));
}

std::vector<double> log_normal_proportions(std::int64_t count, double deviation,
                                           PhiloxStream stream) {
  std::vector<double> logs(static_cast<std::size_t>(count));
  for (double& value : logs) {
    value = deviation * stream.normal();
  }
  return normalized(std::move(logs));
}

std::vector<std::int64_t> cut_points(std::int64_t total, std::span<const double> proportions) {
  std::vector<std::int64_t> cuts{0};
  double sum = 0.0;
  for (const double proportion : proportions) {
    sum += proportion;
    const auto cut = static_cast<std::int64_t>(std::llround(sum * static_cast<double>(total)));
    cuts.push_back(std::clamp(cut, cuts.back(), total));
  }
  cuts.back() = total;
  return cuts;
}

}  // namespace superstep::worker
