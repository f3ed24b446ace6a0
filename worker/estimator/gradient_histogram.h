// Sums of gradients, second derivatives and rows per bin, as integers.
//
// Derivatives are rounded once, to fixed point with a unit that all ranks share; from there on they
// are integers, whose sums have no order: a histogram has the same bits however rows are divided
// among ranks, and a sibling is parent minus child, exactly.
//
//   const FixedPoint unit = fixed_point(bounds, total_rows);
//   packed[row] = pack(derivatives, unit);
//   HistogramBuilder builder(bins);
//   builder.build(rows, packed, sums);                        // sums: one per bin of all features
//
// Range, checked where the unit is made: |sum of gradients| <= 2^62 for all rows, a second
// derivative at most 2^29 units, so that the sum of a chunk of 2^16 rows fits one word together
// with its count. A rounding is off by half a unit: for 2^15 rows of binary logistic, units of
// 2^-47 and 2^-31, G by less than 2^-33 and H by 2^-17 if all roundings agreed, and by about 2^-40
// and 2^-24 as they go. XGBoost adds up float32 derivatives, each of which is off by up to 2^-25.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "worker/estimator/bin_matrix.h"
#include "worker/estimator/objective.h"

namespace superstep::worker {

// Of a bin, or of a node.
struct GradientSum {
  std::int64_t gradient = 0;
  std::int64_t hessian = 0;
  std::int64_t count = 0;

  GradientSum& operator+=(const GradientSum& other) {
    gradient += other.gradient;
    hessian += other.hessian;
    count += other.count;
    return *this;
  }
  friend GradientSum operator-(const GradientSum& a, const GradientSum& b) {
    return {.gradient = a.gradient - b.gradient,
            .hessian = a.hessian - b.hessian,
            .count = a.count - b.count};
  }
  friend bool operator==(const GradientSum&, const GradientSum&) = default;
};

// A derivative is an integer times its unit, a power of two.
struct FixedPoint {
  double gradients_per_unit = 1.0;  // 1 / unit
  double hessians_per_unit = 1.0;
  double gradient_unit = 1.0;
  double hessian_unit = 1.0;
};

// `bounds`: of one row, both greater than 0 and finite (InvalidArgument otherwise). num_rows: of
// all ranks; less than 2^32.
FixedPoint fixed_point(const DerivativeBounds& bounds, std::int64_t num_rows);

// The derivatives of one row, ready to be added: the second one shares its word with the count.
struct alignas(16) PackedDerivatives {
  std::int64_t gradient = 0;
  std::int64_t hessian_and_count = 0;  // hessian << 17 | count
};
inline constexpr int kCountBits = 17;
inline constexpr std::size_t kChunkRows = std::size_t{1} << 16;

// Of a row that counts. One that does not (sampled out) is a PackedDerivatives{}.
PackedDerivatives pack(const Derivatives& derivatives, const FixedPoint& unit);
GradientSum unpack(const PackedDerivatives& packed);

// Adds up rows of one rank. Keeps one packed histogram as scratch: 16 bytes per bin.
class HistogramBuilder {
 public:
  // `bins` must remain valid.
  explicit HistogramBuilder(const BinMatrix& bins) : bins_(bins), scratch_(bins.total_bins()) {}

  // sums[b] = of all rows with bin b, for the bins of all features; `sums` has total_bins().
  // derivatives[row] belongs to row `row` of the rank.
  void build(std::span<const std::uint32_t> rows, std::span<const PackedDerivatives> derivatives,
             std::span<GradientSum> sums);

 private:
  const BinMatrix& bins_;
  std::vector<PackedDerivatives> scratch_;
};

}  // namespace superstep::worker
