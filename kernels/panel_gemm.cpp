#include "kernels/panel_gemm.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "kernels/bf16_packing.h"
#include "kernels/panel_tile.h"
#include "kernels/thin_gemm.h"
#include "kernels/transpose.h"

namespace superstep::kernels {

struct PanelGemm::Block {
  std::int64_t first_row = 0;  // of C
  std::int64_t num_rows = 0;
  std::int64_t first_k = 0;
  std::int64_t num_k = 0;
  std::int64_t num_steps = 0;  // a k each, or two of them
};

// Vectors of an operand over a run of k.
struct PanelGemm::Operand {
  const float* from = nullptr;
  std::int64_t columns = 0;
  std::int64_t k_stride = 0;  // 1, or
  std::int64_t stride = 0;    // 1: from vector to vector
};

namespace {

using namespace internal;  // NOLINT(google-build-using-namespace): registers

constexpr std::int64_t kBlockK = 256;  // a panel of so many rows stays in first-level cache
// Rows that share a panel's copy when m is large. Few, since C is written along their rows: with 96
// rows the outer product of 2048 x 64 x 2048 takes 1.3 times as long, for want of pages in the
// buffer of translations.
constexpr std::int64_t kBlockRows = 4 * kTileRows;
constexpr std::int64_t kMostBlockRows = 256;  // up to so many, all of them do

// In bf16 the copy of B takes longer than the arithmetic: it is read along its rows, so many
// columns at a time (measured: a product of 64 rows takes 0.7 of the time; in float32 it gains
// nothing).
constexpr std::int64_t kStrip = 8 * kPanel;

std::int64_t strip_of(const GemmShape& shape, Precision precision) {
  const bool along_rows = precision == Precision::kBfloat16 && !shape.transpose_b;
  return along_rows ? std::min(kStrip, rounded_up(shape.n, kPanel)) : kPanel;
}

}  // namespace

bool PanelGemm::supports(const GemmShape& shape, std::int64_t num_slots, Precision precision) {
  if (precision == Precision::kBfloat16 && !has_bf16_instructions()) {
    return false;
  }
  if (!kHasPanels || shape.m < 1 || shape.n < 1 || shape.k < 1 || num_slots < 1) {
    return false;
  }
  return num_slots == 1 || (shape.transpose_a && !shape.transpose_b && shape.k <= kBlockK &&
                            shape.k % num_slots == 0);
}

PanelGemm::PanelGemm(const GemmShape& shape, std::vector<int> folds, Precision precision)
    : shape_(shape),
      folds_(std::move(folds)),
      precision_(precision),
      is_thin_(precision == Precision::kFloat32 && folds_.size() == 1 &&
               internal::is_thin_product(shape)),
      rows_per_block_(rounded_up(shape.m <= kMostBlockRows ? shape.m : kBlockRows, kTileRows)),
      strip_(strip_of(shape, precision)) {
  SUPERSTEP_CHECK(supports(shape_, static_cast<std::int64_t>(folds_.size()), precision_),
                  "product of", shape.m, shape.n, shape.k, folds_.size());
}

// Every slot begins with a step of its own.
std::int64_t PanelGemm::steps_of(std::int64_t num_k) const {
  if (precision_ == Precision::kFloat32) {
    return num_k;
  }
  const auto runs = static_cast<std::int64_t>(folds_.size());
  return runs * ((num_k / runs + 1) / 2);
}

// The copies of a block of A, and of one panel of B or, where several blocks of rows share them, of
// all panels.
std::int64_t PanelGemm::workspace_bytes() const {
  if (is_thin_) {
    return internal::thin_product_workspace_bytes(shape_);
  }
  const std::int64_t num_steps = steps_of(std::min(shape_.k, kBlockK));
  const std::int64_t columns = rows_per_block_ >= shape_.m ? strip_ : rounded_up(shape_.n, kPanel);
  return (rows_per_block_ + columns) * num_steps * static_cast<std::int64_t>(sizeof(float)) + 64;
}

// Tiles or panels of (steps, width), one after the other.
void PanelGemm::pack_pairs(const Operand& operand, const Block& block, std::int64_t width,
                           float* to) const {
  const auto runs = static_cast<std::int64_t>(folds_.size());
  const std::int64_t panel_stride = block.num_steps * width;
  PairStrip strip{.from = operand.from, .num_k = block.num_k / runs};
  for (std::int64_t run = 0; run < runs; ++run) {
    if (operand.k_stride != 1) {
      strip.stride = operand.k_stride;
      strip.columns = operand.columns;
      pack_row_pairs(strip, width, panel_stride, to);
    }
    strip.stride = operand.stride;
    for (std::int64_t j = 0; operand.k_stride == 1 && j < operand.columns; j += width) {
      strip.columns = std::min(width, operand.columns - j);
      pack_column_pairs({strip.from + j * strip.stride, strip.stride, strip.columns, strip.num_k},
                        width, to + j / width * panel_stride);
    }
    strip.from += strip.num_k * operand.k_stride;
    to += (strip.num_k + 1) / 2 * width;
  }
}

// Tiles of (steps, kTileRows), one after the other; rows that do not exist are not read later.
void PanelGemm::pack_a(const float* a, const Block& block, float* packed) const {
  const std::int64_t row_stride = shape_.transpose_a ? 1 : shape_.k;
  const std::int64_t k_stride = shape_.transpose_a ? shape_.m : 1;
  const float* first = a + block.first_row * row_stride + block.first_k * k_stride;
  if (precision_ == Precision::kBfloat16) {
    pack_pairs({first, block.num_rows, k_stride, row_stride}, block, kTileRows, packed);
    return;
  }
  for (std::int64_t i = 0; i < block.num_rows; i += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, block.num_rows - i);
    if (shape_.transpose_a) {
      for (std::int64_t k = 0; k < block.num_k; ++k) {
        for (std::int64_t r = 0; r < rows; ++r) {
          packed[k * kTileRows + r] = first[i + r + k * k_stride];
        }
      }
    } else {
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t k = 0; k < block.num_k; ++k) {
          packed[k * kTileRows + r] = first[(i + r) * row_stride + k];
        }
      }
    }
    packed += block.num_steps * kTileRows;
  }
}

void PanelGemm::pack_b_panel(const float* b, const Block& block, std::int64_t column,
                             float* packed) const {
  const std::int64_t columns = std::min(kPanel, shape_.n - column);
  if (columns < kPanel) {
    std::fill(packed, packed + block.num_k * kPanel, 0.0F);
  }
  if (shape_.transpose_b) {
    transpose(columns, block.num_k, b + column * shape_.k + block.first_k, shape_.k, packed,
              kPanel);
    return;
  }
  const float* from = b + block.first_k * shape_.n + column;
  for (std::int64_t k = 0; k < block.num_k; ++k, from += shape_.n, packed += kPanel) {
    if (columns == kPanel) {
      store(packed, load(from));
      store(packed + kWidth, load(from + kWidth));
    } else {
      std::copy(from, from + columns, packed);
    }
  }
}

// Panels, one after the other.
void PanelGemm::pack_b_strip(const float* b, const Block& block, std::int64_t column,
                             std::int64_t columns, float* packed) const {
  if (precision_ == Precision::kBfloat16) {
    const std::int64_t k_stride = shape_.transpose_b ? 1 : shape_.n;
    const std::int64_t stride = shape_.transpose_b ? shape_.k : 1;
    pack_pairs({b + column * stride + block.first_k * k_stride, columns, k_stride, stride}, block,
               kPanel, packed);
    return;
  }
  for (std::int64_t i = 0; i < columns; i += kPanel) {
    pack_b_panel(b, block, column + i, packed + i * block.num_steps);
  }
}

void PanelGemm::multiply_panel(const Block& block, std::int64_t column, const float* packed_a,
                               const float* packed_b, float* c) const {
  const std::int64_t columns = std::min(kPanel, shape_.n - column);
  for (std::int64_t i = 0; i < block.num_rows; i += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, block.num_rows - i);
    float* target = c + (block.first_row + i) * shape_.n + column;
    TileWork work{.num_steps = block.num_steps,
                  .packed_a = packed_a + i * block.num_steps,
                  .packed_b = packed_b,
                  .from = target,
                  .from_stride = shape_.n,
                  .c = target,
                  .row_stride = shape_.n,
                  .continues = block.first_k > 0};
    if (columns == kPanel) {
      compute_tile_of<kTileRows>(rows, work, folds_, precision_);
      continue;
    }
    alignas(64) std::array<float, kTileElements> part{};
    for (std::int64_t r = 0; work.continues && r < rows; ++r) {
      std::copy_n(target + r * shape_.n, columns, part.data() + r * kPanel);
    }
    work.from = part.data();
    work.from_stride = kPanel;
    work.c = part.data();
    work.row_stride = kPanel;
    compute_tile_of<kTileRows>(rows, work, folds_, precision_);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(part.data() + r * kPanel, columns, target + r * shape_.n);
    }
  }
}

void PanelGemm::run(const float* a, const float* b, float* c,
                    std::span<std::byte> workspace) const {
  if (is_thin_) {
    internal::multiply_thin(shape_, a, b, c, workspace);
    return;
  }
  float* const packed_a = reinterpret_cast<float*>(workspace.data());
  constexpr std::int64_t kLine = 16;  // floats
  float* const packed_b =
      packed_a + rounded_up(rows_per_block_ * steps_of(std::min(shape_.k, kBlockK)), kLine);
  const bool shared_panels = rows_per_block_ < shape_.m;
  for (std::int64_t first_k = 0; first_k < shape_.k; first_k += kBlockK) {
    Block block{.first_k = first_k, .num_k = std::min(kBlockK, shape_.k - first_k)};
    block.num_steps = steps_of(block.num_k);
    for (block.first_row = 0; block.first_row < shape_.m; block.first_row += rows_per_block_) {
      block.num_rows = std::min(rows_per_block_, shape_.m - block.first_row);
      pack_a(a, block, packed_a);
      for (std::int64_t column = 0; column < shape_.n; column += strip_) {
        const std::int64_t columns = std::min(strip_, shape_.n - column);
        float* const panels = shared_panels ? packed_b + column * block.num_steps : packed_b;
        if (!shared_panels || block.first_row == 0) {
          pack_b_strip(b, block, column, columns, panels);
        }
        for (std::int64_t i = 0; i < columns; i += kPanel) {
          multiply_panel(block, column + i, packed_a, panels + i * block.num_steps, c);
        }
      }
    }
  }
}

}  // namespace superstep::kernels
