#include "worker/federated/privacy/norm_quantile.h"

#include <algorithm>
#include <cmath>

#include "paramserver/discrete_gaussian.h"

namespace superstep::worker {

std::string_view name_of(NoiseSource source) {
  return source == NoiseSource::kSystem ? "system" : "test";
}

void NormQuantile::move(std::int64_t noisy_centered_count, std::int64_t clients) {
  const double centered =
      static_cast<double>(noisy_centered_count) / (2.0 * static_cast<double>(kHalfCount));
  const double within = centered / static_cast<double>(clients) + 0.5;
  estimate_ *= std::exp(-options_.learning_rate * (within - options_.target));
  constexpr double kLeastPart = 0x1p-40;  // a bound of 0 would never grow again
  estimate_ = std::clamp(estimate_, options_.most * kLeastPart, options_.most);
}

std::int64_t noise_of_counts(double deviation, NoiseSource source, const PhiloxStream& test) {
  if (deviation == 0.0) {
    return 0;
  }
  const double units = deviation * 2.0 * static_cast<double>(kHalfCount);
  if (source == NoiseSource::kSystem) {
    paramserver::SystemBits bits;
    return paramserver::discrete_gaussian(units, bits);
  }
  paramserver::SeededBits bits(test);
  return paramserver::discrete_gaussian(units, bits);
}

}  // namespace superstep::worker
