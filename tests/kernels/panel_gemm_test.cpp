// Every element is the chain of fused multiply-adds that the header promises, bit for bit.
#include "kernels/panel_gemm.h"

#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned.h"
#include "tests/support/reference_heavy_ops.h"

namespace superstep::testing {
namespace {

using kernels::GemmShape;
using kernels::PanelGemm;
using kernels::Precision;
using Floats = std::vector<float>;

Floats random_floats(std::int64_t count, std::uint64_t seed) {
  const kernels::Tensor values = random_tensor({kernels::DType::kFloat32, {count}}, seed);
  return {values.data<float>().begin(), values.data<float>().end()};
}

// Over the rows k in [first, first + count).
float chain(const GemmShape& s, const Floats& a, const Floats& b, std::int64_t i, std::int64_t j,
            std::int64_t first, std::int64_t count) {
  float sum = 0.0F;
  for (std::int64_t k = first; k < first + count; ++k) {
    const float x = a[static_cast<std::size_t>(s.transpose_a ? k * s.m + i : i * s.k + k)];
    const float y = b[static_cast<std::size_t>(s.transpose_b ? j * s.k + k : k * s.n + j)];
    sum = std::fma(x, y, sum);
  }
  return sum;
}

Floats run(const PanelGemm& product, const GemmShape& s, const Floats& a, const Floats& b) {
  AlignedBuffer<std::byte> workspace(product.workspace_bytes());
  Floats c(static_cast<std::size_t>(s.m * s.n), std::nanf(""));
  product.run(a.data(), b.data(), c.data(), workspace.span());
  return c;
}

std::vector<GemmShape> panel_gemm_shapes() {
  std::vector<GemmShape> all;
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                            {7, 5, 3},
                                                                            {16, 10, 200},
                                                                            {13, 33, 257},
                                                                            {300, 37, 20},
                                                                            {97, 100, 530},
                                                                            {20, 300, 70},
                                                                            {260, 290, 31},
                                                                            {64, 97, 130},
                                                                            {250, 555, 66},
                                                                            {100, 2200, 65}}) {
        all.push_back({m, n, k, ta, tb});
      }
    }
  }
  return all;
}

TEST(PanelGemm, IsTheChainOfFusedMultiplyAddsOfEachElement) {
  int checked = 0;
  for (const GemmShape& s : panel_gemm_shapes()) {
    if (!PanelGemm::supports(s)) {
      continue;
    }
    const Floats a = random_floats(s.m * s.k, 1);
    const Floats b = random_floats(s.n * s.k, 2);
    const Floats c = run(PanelGemm(s), s, a, b);
    for (std::int64_t i = 0; i < s.m; ++i) {
      for (std::int64_t j = 0; j < s.n; ++j) {
        ASSERT_EQ(c[static_cast<std::size_t>(i * s.n + j)], chain(s, a, b, i, j, 0, s.k))
            << s.m << " " << s.n << " " << s.k << " at " << i << " " << j;
      }
    }
    ++checked;
  }
#if defined(__AVX2__) && defined(__FMA__)
  EXPECT_EQ(checked, 44);
#endif
}

#if defined(__AVX2__) && defined(__FMA__)
TEST(PanelGemm, AddsTheProductsOfSlotsAlongTheTree) {
  const GemmShape s{.m = 101, .n = 37, .k = 6 * 9, .transpose_a = true};
  const std::vector<int> folds = {0, 1, 0, 2, 0, 2};  // ((01)(23))(45)
  const Floats a = random_floats(s.m * s.k, 1);
  const Floats b = random_floats(s.n * s.k, 2);
  const Floats c = run(PanelGemm(s, folds), s, a, b);
  for (std::int64_t i = 0; i < s.m; ++i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      const auto slot = [&](std::int64_t index) { return chain(s, a, b, i, j, index * 9, 9); };
      const float four = (slot(0) + slot(1)) + (slot(2) + slot(3));
      ASSERT_EQ(c[static_cast<std::size_t>(i * s.n + j)], four + (slot(4) + slot(5)));
    }
  }
}

#endif

// The same in pairs: of two k the upper one is added first, each in one rounding.
float chain_of_pairs(const GemmShape& s, const Floats& a, const Floats& b, std::int64_t i,
                     std::int64_t j, std::int64_t first, std::int64_t count) {
  const auto product_added = [&](std::int64_t k, float sum) {
    const float x = a[static_cast<std::size_t>(s.transpose_a ? k * s.m + i : i * s.k + k)];
    const float y = b[static_cast<std::size_t>(s.transpose_b ? j * s.k + k : k * s.n + j)];
    return std::fma(kernels::rounded_to_bf16(x), kernels::rounded_to_bf16(y), sum);
  };
  float sum = 0.0F;
  for (std::int64_t k = first; k < first + count; k += 2) {
    sum = product_added(k, k + 1 < first + count ? product_added(k + 1, sum) : sum);
  }
  return sum;
}

TEST(PanelGemm, InBf16IsTheChainOfPairsOfEachElement) {
  for (const GemmShape& s : panel_gemm_shapes()) {
    ASSERT_EQ(PanelGemm::supports(s, 1, Precision::kBfloat16), kernels::has_bf16_instructions());
    if (!kernels::has_bf16_instructions()) {
      continue;
    }
    const Floats a = random_floats(s.m * s.k, 1);
    const Floats b = random_floats(s.n * s.k, 2);
    const Floats c = run(PanelGemm(s, {0}, Precision::kBfloat16), s, a, b);
    for (std::int64_t i = 0; i < s.m; ++i) {
      for (std::int64_t j = 0; j < s.n; ++j) {
        ASSERT_EQ(c[static_cast<std::size_t>(i * s.n + j)], chain_of_pairs(s, a, b, i, j, 0, s.k))
            << s.m << " " << s.n << " " << s.k << " at " << i << " " << j;
      }
    }
  }
}

TEST(PanelGemm, InBf16BeginsEverySlotWithAPairOfItsOwn) {
  const GemmShape s{.m = 101, .n = 300, .k = 3 * 9, .transpose_a = true};
  const std::vector<int> folds = {0, 1, 1};
  ASSERT_EQ(PanelGemm::supports(s, 3, Precision::kBfloat16), kernels::has_bf16_instructions());
  if (!kernels::has_bf16_instructions()) {
    return;
  }
  const Floats a = random_floats(s.m * s.k, 1);
  const Floats b = random_floats(s.n * s.k, 2);
  const Floats c = run(PanelGemm(s, folds, Precision::kBfloat16), s, a, b);
  for (std::int64_t i = 0; i < s.m; ++i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      const auto slot = [&](std::int64_t index) {
        return chain_of_pairs(s, a, b, i, j, index * 9, 9);
      };
      ASSERT_EQ(c[static_cast<std::size_t>(i * s.n + j)], (slot(0) + slot(1)) + slot(2));
    }
  }
}

TEST(PanelGemm, RefusesSlotsThatDoNotFit) {
  const GemmShape outer{.m = 8, .n = 8, .k = 12, .transpose_a = true};
  EXPECT_FALSE(PanelGemm::supports(outer, 5));
  GemmShape rows = outer;
  rows.transpose_a = false;
  EXPECT_FALSE(PanelGemm::supports(rows, 2));
  GemmShape deep = outer;
  deep.k = 1200;
  EXPECT_FALSE(PanelGemm::supports(deep, 2));
  GemmShape empty = outer;
  empty.k = 0;
  EXPECT_FALSE(PanelGemm::supports(empty));
}

}  // namespace
}  // namespace superstep::testing
