// Copies of float32 operands as pairs of bf16 numbers, in the order in which registers multiply
// them (kernels/panel_gemm.h).
//
// A strip is `columns` vectors of num_k elements. In its copy, float `step * width + j` holds
// elements 2 step (lower half) and 2 step + 1 (upper half) of vector j, rounded as in
// kernels/precision.h; what lies beyond num_k or `columns` is zero. Only where
// has_bf16_instructions(); from and to need no alignment and nothing beyond their ends is touched.
#pragma once

#include <cstdint>

namespace superstep::kernels {

struct PairStrip {
  const float* from = nullptr;
  std::int64_t stride = 0;  // elements
  std::int64_t columns = 0;
  std::int64_t num_k = 0;
};

// Element k of vector j is from[k * stride + j]. Vectors beyond `width` go to further copies,
// panel_stride floats apart: memory is read along its rows.
void pack_row_pairs(const PairStrip& strip, std::int64_t width, std::int64_t panel_stride,
                    float* to);
// Element k of vector j is from[j * stride + k].
void pack_column_pairs(const PairStrip& strip, std::int64_t width, float* to);

}  // namespace superstep::kernels
