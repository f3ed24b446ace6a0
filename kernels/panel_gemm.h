// Matrix product for training steps: one operand thin, single precision, one thread.
//
// A step multiplies a batch of some dozen rows with a large matrix, or forms the outer product of
// two thin ones; general products spend much of such a call on copying. This one has a way for each
// (AVX2 or AVX-512; elsewhere it does not exist): a few rows by a matrix of weights as of
// kernels/thin_gemm.h; others copy one operand in tiles and the other one panel by panel through
// first-level cache. Tiles of C are computed in registers with explicit fused multiply-adds.
//
// Each element of C is the chain fma(a_k, b_k, ...) over ascending k, starting from 0: its bits
// depend on its row of A and its column of B alone, not on its place, on the sizes, on addresses or
// on how a batch is cut. Blocks of k go through memory exactly.
//
//   PanelGemm gemm({.m = 64, .n = 200, .k = 784});
//   gemm.run(a, b, c, workspace);    // gemm.workspace_bytes() bytes, 64-byte aligned
//
// In bf16 (kernels/precision.h) the copies hold pairs of rounded numbers, and a step multiplies two
// k at once (VDPBF16PS): the chain is over ascending pairs, of each pair the upper k first, with
// one rounding a product. An odd k ends with half a pair. The properties are the same.
//
// With slots (transpose_a only) the rows k are cut into equal runs, and C is the sum of the runs'
// products along a tree: after run s the top two sums on a stack are added folds[s] times (left +
// right). That has the bits of products made one by one and added, but C is written once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gemm.h"
#include "kernels/precision.h"

namespace superstep::kernels {

class PanelGemm {
 public:
  // Whether this build and shape are served; slots divide k.
  static bool supports(const GemmShape& shape, std::int64_t num_slots = 1,
                       Precision precision = Precision::kFloat32);

  // One fold per slot; the last one leaves a single sum.
  explicit PanelGemm(const GemmShape& shape, std::vector<int> folds = {0},
                     Precision precision = Precision::kFloat32);

  std::int64_t workspace_bytes() const;
  // C is overwritten and overlaps neither A, B nor the workspace.
  void run(const float* a, const float* b, float* c, std::span<std::byte> workspace) const;

 private:
  struct Block;
  struct Operand;
  std::int64_t steps_of(std::int64_t num_k) const;
  void pack_pairs(const Operand& operand, const Block& block, std::int64_t width, float* to) const;
  void pack_a(const float* a, const Block& block, float* packed) const;
  void pack_b_panel(const float* b, const Block& block, std::int64_t column, float* packed) const;
  void pack_b_strip(const float* b, const Block& block, std::int64_t column, std::int64_t columns,
                    float* packed) const;
  void multiply_panel(const Block& block, std::int64_t column, const float* packed_a,
                      const float* packed_b, float* c) const;

  GemmShape shape_;
  std::vector<int> folds_;
  Precision precision_;
  bool is_thin_;                     // kernels/thin_gemm.h
  std::int64_t rows_per_block_ = 0;  // of C that share the copy of a panel
  std::int64_t strip_ = 0;           // columns of B that are copied together
};

}  // namespace superstep::kernels
