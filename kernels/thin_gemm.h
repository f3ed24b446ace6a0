// The two products of a few rows with a large matrix B of weights, float32: parts of PanelGemm.
//
// Most of the time of such a product goes by in fetching the weights, not in arithmetic. So B is
// read once, in the order in which it lies, and what is needed again stays in the caches:
//
// - along_rows, B (k, n): blocks of some rows of B from left to right; the columns to come are
//   fetched meanwhile. C is kept in tiles between the blocks, in second-level cache.
// - dots, B (n, k): each row of B is multiplied with all rows of A as it is, number by number; the
//   rows of A lie side by side in second-level cache. Nothing of B is copied.
//
// Each element of C is the chain fma(a_k, b_k, ...) over ascending k, as of PanelGemm.
// Measured, 64 x 2048 x 2048, weights out of the cache: docs/benchmarks.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/gemm.h"

namespace superstep::kernels::internal {

// Whether one of the two is for this product.
bool is_thin_product(const GemmShape& shape);

std::int64_t thin_product_workspace_bytes(const GemmShape& shape);
// C is overwritten and overlaps neither A, B nor the workspace (64-byte aligned).
void multiply_thin(const GemmShape& shape, const float* a, const float* b, float* c,
                   std::span<std::byte> workspace);

}  // namespace superstep::kernels::internal
