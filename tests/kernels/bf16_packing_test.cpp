// Pairs lie step by step, rounded as kernels/precision.h says; nothing beyond the copy is written.
#include "kernels/bf16_packing.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/precision.h"
#include "tests/support/reference_heavy_ops.h"

namespace superstep::testing {
namespace {

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)

using kernels::PairStrip;
using Floats = std::vector<float>;

constexpr std::uint32_t kUntouched = 0x12345678;

enum class Vectors : std::uint8_t { kInColumns, kInRows };

// Normal numbers of all sizes, zeros, infinities, a NaN and subnormals.
Floats numbers(std::int64_t count) {
  const kernels::Tensor values = random_tensor({kernels::DType::kFloat32, {count}}, 7);
  Floats all(values.data<float>().begin(), values.data<float>().end());
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = std::ldexp(all[i], static_cast<int>(i % 200) - 100);
  }
  const std::array special = {0.0F,
                              -0.0F,
                              std::numeric_limits<float>::infinity(),
                              std::nanf(""),
                              std::numeric_limits<float>::denorm_min(),
                              std::numeric_limits<float>::max()};
  for (std::size_t i = 0; i < special.size() && 5 * i < all.size(); ++i) {
    all[5 * i] = special[i];
  }
  return all;
}

std::uint32_t upper_half(float value) {
  return std::bit_cast<std::uint32_t>(kernels::rounded_to_bf16(value)) >> 16;
}

void expect_packed(Vectors vectors, std::int64_t columns, std::int64_t num_k, std::int64_t width) {
  SCOPED_TRACE(::testing::Message() << columns << " of " << width << " columns, " << num_k
                                    << " deep, " << static_cast<int>(vectors));
  const bool in_rows = vectors == Vectors::kInRows;
  const std::int64_t stride = (in_rows ? num_k : columns) + 3;
  const Floats from = numbers((in_rows ? columns : num_k) * stride);
  const std::int64_t steps = (num_k + 1) / 2;
  Floats to(static_cast<std::size_t>(steps * width + 1), std::bit_cast<float>(kUntouched));
  const PairStrip strip{.from = from.data(), .stride = stride, .columns = columns, .num_k = num_k};
  if (in_rows) {
    kernels::pack_column_pairs(strip, width, to.data());
  } else {
    kernels::pack_row_pairs(strip, width, 0, to.data());
  }
  const auto element = [&](std::int64_t j, std::int64_t k) -> std::uint32_t {
    if (j >= columns || k >= num_k) {
      return 0;
    }
    return upper_half(from[static_cast<std::size_t>(in_rows ? j * stride + k : k * stride + j)]);
  };
  for (std::int64_t step = 0; step < steps; ++step) {
    for (std::int64_t j = 0; j < width; ++j) {
      const float found = to[static_cast<std::size_t>(step * width + j)];
      ASSERT_EQ(std::bit_cast<std::uint32_t>(found), element(j, 2 * step) | element(j, 2 * step + 1)
                                                                                << 16)
          << "step " << step << ", column " << j;
    }
  }
  EXPECT_EQ(std::bit_cast<std::uint32_t>(to.back()), kUntouched);
}

TEST(Bf16Packing, LaysPairsOutStepByStep) {
  for (const Vectors vectors : {Vectors::kInColumns, Vectors::kInRows}) {
    for (const auto& [columns, num_k] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {1, 1}, {3, 2}, {8, 16}, {5, 17}, {8, 33}}) {
      expect_packed(vectors, columns, num_k, 8);
    }
    for (const auto& [columns, num_k] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {1, 1}, {32, 256}, {17, 31}, {16, 2}, {31, 5}}) {
      expect_packed(vectors, columns, num_k, 32);
    }
  }
}

TEST(Bf16Packing, PutsVectorsBeyondTheWidthIntoFurtherCopies) {
  constexpr std::int64_t kWidth = 8;
  constexpr std::int64_t kDepth = 5;
  constexpr std::int64_t kColumns = 19;  // two copies and a part of one
  const Floats from = numbers(kColumns * kDepth);
  const std::int64_t stride = 3 * kWidth;  // three steps each
  Floats together(3 * 3 * kWidth);
  kernels::pack_row_pairs(
      {.from = from.data(), .stride = kColumns, .columns = kColumns, .num_k = kDepth}, kWidth,
      stride, together.data());
  for (std::int64_t copy = 0; copy < 3; ++copy) {
    Floats alone(3 * kWidth);
    kernels::pack_row_pairs({.from = from.data() + copy * kWidth,
                             .stride = kColumns,
                             .columns = std::min(kWidth, kColumns - copy * kWidth),
                             .num_k = kDepth},
                            kWidth, 0, alone.data());
    // Pairs of bf16, which as floats may be NaN.
    const auto same_bits = [](float a, float b) {
      return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
    };
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.data() + copy * stride, same_bits))
        << copy;
  }
}

#else

TEST(Bf16Packing, RefusesBuildsWithoutInstructions) {
  EXPECT_FALSE(kernels::has_bf16_instructions());
  float to = 0.0F;
  EXPECT_ANY_THROW(kernels::pack_row_pairs({}, 1, 1, &to));
  EXPECT_ANY_THROW(kernels::pack_column_pairs({}, 1, &to));
}

#endif

}  // namespace
}  // namespace superstep::testing
