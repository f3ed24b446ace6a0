#include "worker/estimator/gradient_histogram.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "base/prefetch.h"

namespace superstep::worker {

namespace {

constexpr int kSumBits = 62;      // of a sum of gradients over all rows
constexpr int kHessianBits = 29;  // of one second derivative: 2^16 of them and a count in 63 bits
constexpr std::size_t kRowsAhead = 12;

// Smallest e with value <= 2^e.
int exponent_above(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return fraction == 0.5 ? exponent - 1 : exponent;
}

template <typename Bin>
void add_rows(const Bin* __restrict bins, std::span<const std::uint32_t> rows,
              std::span<const std::uint32_t> offsets,
              const PackedDerivatives* __restrict derivatives, PackedDerivatives* __restrict sums) {
  const std::size_t width = offsets.size() - 1;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i + kRowsAhead < rows.size()) {
      const std::size_t ahead = rows[i + kRowsAhead];
      prefetch(bins + ahead * width, static_cast<std::int64_t>(width));
      prefetch(derivatives + ahead, 1);
    }
    const PackedDerivatives one = derivatives[rows[i]];
    const Bin* const row = bins + rows[i] * width;
    for (std::size_t f = 0; f < width; ++f) {
      PackedDerivatives& sum = sums[offsets[f] + row[f]];
      sum.gradient += one.gradient;
      sum.hessian_and_count += one.hessian_and_count;
    }
  }
}

}  // namespace

FixedPoint fixed_point(const DerivativeBounds& bounds, std::int64_t num_rows) {
  if (!(bounds.gradient > 0.0 && bounds.hessian > 0.0 && std::isfinite(bounds.gradient) &&
        std::isfinite(bounds.hessian))) {
    throw InvalidArgument("fixed_point", fmt::format("bounds of derivatives: got {} and {}, "
                                                     "expected finite numbers above 0",
                                                     bounds.gradient, bounds.hessian));
  }
  if (num_rows < 1 || num_rows >= std::int64_t{1} << 32) {
    throw InvalidArgument("fixed_point",
                          fmt::format("rows: got {}, expected 1 to 2^32 - 1", num_rows));
  }
  const int gradient_bits =
      kSumBits - exponent_above(static_cast<double>(num_rows)) - exponent_above(bounds.gradient);
  const int hessian_bits = kHessianBits - exponent_above(bounds.hessian);
  return {.gradients_per_unit = std::ldexp(1.0, gradient_bits),
          .hessians_per_unit = std::ldexp(1.0, hessian_bits),
          .gradient_unit = std::ldexp(1.0, -gradient_bits),
          .hessian_unit = std::ldexp(1.0, -hessian_bits)};
}

PackedDerivatives pack(const Derivatives& derivatives, const FixedPoint& unit) {
  const std::int64_t gradient =
      std::llrint(static_cast<double>(derivatives.gradient) * unit.gradients_per_unit);
  const std::int64_t hessian =
      std::llrint(static_cast<double>(derivatives.hessian) * unit.hessians_per_unit);
  return {.gradient = gradient, .hessian_and_count = (hessian << kCountBits) + 1};
}

GradientSum unpack(const PackedDerivatives& packed) {
  constexpr std::int64_t kCountMask = (std::int64_t{1} << kCountBits) - 1;
  return {.gradient = packed.gradient,
          .hessian = packed.hessian_and_count >> kCountBits,
          .count = packed.hessian_and_count & kCountMask};
}

void HistogramBuilder::build(std::span<const std::uint32_t> rows,
                             std::span<const PackedDerivatives> derivatives,
                             std::span<GradientSum> sums) {
  if (rows.empty()) {
    std::fill(sums.begin(), sums.end(), GradientSum{});
  }
  for (std::size_t begin = 0; begin < rows.size(); begin += kChunkRows) {
    std::fill(scratch_.begin(), scratch_.end(), PackedDerivatives{});
    bins_.visit([&](const auto* data) {
      add_rows(data, rows.subspan(begin, std::min(kChunkRows, rows.size() - begin)),
               bins_.offsets(), derivatives.data(), scratch_.data());
    });
    if (begin == 0) {
      std::transform(scratch_.begin(), scratch_.end(), sums.begin(), unpack);
      continue;
    }
    for (std::size_t bin = 0; bin < scratch_.size(); ++bin) {
      sums[bin] += unpack(scratch_[bin]);
    }
  }
}

}  // namespace superstep::worker
