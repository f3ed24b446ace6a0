#include "paramserver/clip.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>

#include "base/check.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

namespace {

// Partial sums of a block: enough for two AVX-512 registers of double in flight, and the same
// number on every machine, because it decides the order of additions.
constexpr std::size_t kPartialSums = 16;
constexpr auto kBlock = static_cast<std::size_t>(kBlockElements);
static_assert(kBlock % kPartialSums == 0);

// Partial sum j adds elements j, j + 16, j + 32, ...; the 16 are then added along the tree.
template <typename T>
double squared_norm_of_block(const T* block) {
  std::array<double, kPartialSums> sums{};
  for (std::size_t i = 0; i < kBlock; i += kPartialSums) {
    for (std::size_t j = 0; j < kPartialSums; ++j) {
      const auto element = static_cast<double>(block[i + j]);
      sums[j] += element * element;
    }
  }
  return tree_sum(sums);
}

}  // namespace

template <typename T>
void clip_by_value(std::span<T> gradient, double limit) {
  SUPERSTEP_CHECK(limit > 0.0, "limit of clip_by_value", limit);
  const T high = static_cast<T>(limit);
  const T low = -high;
  for (T& element : gradient) {
    // Comparisons with NaN are false, so NaN falls through both.
    const T above = element > high ? high : element;
    element = above < low ? low : above;
  }
}

template <typename T>
void block_squared_norms(std::span<const T> gradient, std::span<double> out) {
  SUPERSTEP_CHECK(gradient.size() == out.size() * kBlock, "whole blocks", gradient.size(),
                  out.size());
  for (std::size_t b = 0; b < out.size(); ++b) {
    out[b] = squared_norm_of_block(gradient.data() + b * kBlock);
  }
}

double tree_sum(std::span<const double> values) {
  if (values.size() <= 1) {
    return values.empty() ? 0.0 : values.front();
  }
  const std::size_t middle = std::bit_floor(values.size() - 1);
  return tree_sum(values.first(middle)) + tree_sum(values.subspan(middle));
}

double global_norm_factor(double norm, double max_norm) {
  SUPERSTEP_CHECK(max_norm > 0.0, "max_norm of global_norm_factor", max_norm);
  return std::isfinite(norm) && norm > max_norm ? max_norm / norm : 1.0;
}

template <typename T>
void scale(std::span<T> gradient, double factor) {
  if (factor == 1.0) {
    return;
  }
  const T rounded = static_cast<T>(factor);
  for (T& element : gradient) {
    element *= rounded;
  }
}

template void clip_by_value<float>(std::span<float>, double);
template void clip_by_value<double>(std::span<double>, double);
template void block_squared_norms<float>(std::span<const float>, std::span<double>);
template void block_squared_norms<double>(std::span<const double>, std::span<double>);
template void scale<float>(std::span<float>, double);
template void scale<double>(std::span<double>, double);

}  // namespace superstep::paramserver
