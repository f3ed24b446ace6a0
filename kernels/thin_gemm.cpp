#include "kernels/thin_gemm.h"

#include <algorithm>
#include <array>

#include "base/prefetch.h"
#include "kernels/panel_tile.h"
#include "kernels/transpose.h"

namespace superstep::kernels::internal {

namespace {

constexpr std::int64_t kMostRows = 256;

// ---- B (k, n) along its rows ----

constexpr std::int64_t kBlockK = 64;                // rows of B in a block
constexpr std::int64_t kTilesBytes = 512 * 1024;    // of C that are kept: half of a small L2 cache
constexpr std::int64_t kFetchedAhead = 4 * kPanel;  // columns

std::int64_t padded_rows(const GemmShape& shape) {
  return rounded_up(shape.m, kTileRows);
}

// Columns of B that go through all its rows together.
std::int64_t columns_of_strip(const GemmShape& shape) {
  const std::int64_t row_bytes = padded_rows(shape) * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t most = std::max(kPanel, kTilesBytes / row_bytes / kPanel * kPanel);
  return std::min(most, rounded_up(shape.n, kPanel));
}

// One block of a strip: rows [first_k, first_k + num_k) and columns [begin, end) of B.
struct Block {
  std::int64_t first_k = 0;
  std::int64_t num_k = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool is_last = false;  // of its strip
};

class AlongRows {
 public:
  AlongRows(const GemmShape& shape, const float* a, const float* b, float* c, float* workspace)
      : shape_(shape),
        a_(a),
        b_(b),
        c_(c),
        packed_a_(workspace),
        packed_b_(packed_a_ + padded_rows(shape) * kBlockK),
        tiles_(packed_b_ + kPanel * kBlockK) {}

  static std::int64_t workspace_floats(const GemmShape& shape) {
    return padded_rows(shape) * (kBlockK + columns_of_strip(shape)) + kPanel * kBlockK;
  }

  void run() const {
    const std::int64_t strip = columns_of_strip(shape_);
    for (std::int64_t column = 0; column < shape_.n; column += strip) {
      const std::int64_t end = std::min(column + strip, shape_.n);
      for (std::int64_t k = 0; k < shape_.k; k += kBlockK) {
        const std::int64_t num_k = std::min(kBlockK, shape_.k - k);
        multiply_block({k, num_k, column, end, k + num_k == shape_.k});
      }
    }
  }

 private:
  void multiply_block(const Block& block) const {
    pack_a(block);
    float* tiles = tiles_;
    for (std::int64_t column = block.begin; column < block.end; column += kPanel) {
      pack_b(block, column);
      multiply_panel(block, column, tiles);
      tiles += padded_rows(shape_) * kPanel;
    }
  }

  void pack_a(const Block& block) const {
    for (std::int64_t row = 0; row < shape_.m; row += kTileRows) {
      transpose(std::min(kTileRows, shape_.m - row), block.num_k,
                a_ + row * shape_.k + block.first_k, shape_.k, packed_a_ + row * block.num_k,
                kTileRows);
    }
  }

  void pack_b(const Block& block, std::int64_t column) const {
    const float* from = b_ + block.first_k * shape_.n + column;
    const std::int64_t columns = std::min(kPanel, shape_.n - column);
    float* to = packed_b_;
    for (std::int64_t k = 0; k < block.num_k; ++k, from += shape_.n, to += kPanel) {
      if (columns == kPanel) {
        store(to, load(from));
        store(to + kWidth, load(from + kWidth));
      } else {
        std::fill(std::copy(from, from + columns, to), to + kPanel, 0.0F);
      }
    }
  }

  // The panel that is needed in a while: further right in the block, or of the next block. Every
  // tile of rows fetches a share of it.
  [[gnu::always_inline]] void fetch_ahead(const Block& block, std::int64_t column,
                                          std::int64_t row) const {
    std::int64_t first_k = block.first_k;
    std::int64_t ahead = column + kFetchedAhead;
    if (ahead >= block.end) {
      first_k += block.num_k;
      ahead += block.begin - block.end;
    }
    if (ahead + kPanel > block.end) {
      return;
    }
    const std::int64_t num_k = std::min(block.num_k, shape_.k - first_k);
    const std::int64_t rows = padded_rows(shape_);
    const std::int64_t end = (row + kTileRows) * num_k / rows;
    for (std::int64_t k = row * num_k / rows; k < end; ++k) {
      const float* line = b_ + (first_k + k) * shape_.n + ahead;
      prefetch(line, kPanel);
    }
  }

  void multiply_panel(const Block& block, std::int64_t column, float* tiles) const {
    const std::int64_t columns = std::min(kPanel, shape_.n - column);
    for (std::int64_t row = 0; row < shape_.m; row += kTileRows) {
      fetch_ahead(block, column, row);
      const std::int64_t rows = std::min(kTileRows, shape_.m - row);
      const bool is_whole = block.is_last && columns == kPanel;
      float* const kept = tiles + row * kPanel;
      float* const target = c_ + row * shape_.n + column;
      const TileWork work{.num_steps = block.num_k,
                          .packed_a = packed_a_ + row * block.num_k,
                          .packed_b = packed_b_,
                          .from = kept,
                          .from_stride = kPanel,
                          .c = is_whole ? target : kept,
                          .row_stride = is_whole ? shape_.n : kPanel,
                          .continues = block.first_k > 0};
      compute_tile_of<kTileRows>(rows, work, kOneSlot, Precision::kFloat32);
      for (std::int64_t r = 0; block.is_last && !is_whole && r < rows; ++r) {
        std::copy_n(kept + r * kPanel, columns, target + r * shape_.n);
      }
    }
  }

  static constexpr std::array<int, 1> kOneSlot{};

  const GemmShape& shape_;
  const float* a_;
  const float* b_;
  float* c_;
  float* packed_a_;  // of one block
  float* packed_b_;  // of one panel of it
  float* tiles_;     // of C, panel by panel: (rows, kPanel)
};

// ---- B (n, k) number by number ----

// Rows of A that go together, in registers side by side.
constexpr std::int64_t kGroups = kTileRows == 8 ? 4 : 2;
constexpr std::int64_t kGroup = kGroups * kWidth;

// Rows of B that one pass over A serves: as many as leave registers for kRegisters of A each.
template <std::int64_t kRegisters>
constexpr std::int64_t rows_of_pass() {
  return kTileRows == 8 ? (kRegisters == 4 ? 6 : kRegisters == 3 ? 8 : 12) : 6;
}

// C^T (rows, kRegisters * kWidth) of rows of B with a group of A, (k, kGroup).
template <std::int64_t kRows, std::int64_t kRegisters>
void multiply_rows(std::int64_t num_k, const float* group, const float* b, float* transposed) {
  Register sums[static_cast<std::size_t>(kRows)][static_cast<std::size_t>(kRegisters)];
  for (auto& row : sums) {
    std::fill(std::begin(row), std::end(row), repeat(0.0F));
  }
  for (std::int64_t k = 0; k < num_k; ++k, group += kGroup) {
    Register a[static_cast<std::size_t>(kRegisters)];
    for (std::size_t i = 0; i < kRegisters; ++i) {
      a[i] = load(group + static_cast<std::int64_t>(i) * kWidth);
    }
#pragma GCC unroll 12
    for (std::size_t r = 0; r < kRows; ++r) {
      const Register weight = repeat(b[static_cast<std::int64_t>(r) * num_k + k]);
#pragma GCC unroll 4
      for (std::size_t i = 0; i < kRegisters; ++i) {
        sums[r][i] = multiply_add(a[i], weight, sums[r][i]);
      }
    }
  }
  for (const auto& row : sums) {
    for (const Register& sum : row) {
      store(transposed, sum);
      transposed += kWidth;
    }
  }
}

template <std::int64_t kRows, std::int64_t kRegisters>
void multiply_rows_of(std::int64_t rows, std::int64_t num_k, const float* group, const float* b,
                      float* transposed) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      multiply_rows<kRows, kRegisters>(num_k, group, b, transposed);
    } else {
      multiply_rows_of<kRows - 1, kRegisters>(rows, num_k, group, b, transposed);
    }
  }
}

// All rows of B with up to kRegisters * kWidth rows of A.
template <std::int64_t kRegisters>
void multiply_group(const GemmShape& shape, std::int64_t first_row, const float* group,
                    const float* b, float* c) {
  constexpr std::int64_t kRows = rows_of_pass<kRegisters>();
  constexpr std::int64_t kColumns = kRegisters * kWidth;
  alignas(64) std::array<float, static_cast<std::size_t>(kRows * kColumns)> transposed;
  const std::int64_t columns = std::min(kColumns, shape.m - first_row);
  for (std::int64_t j = 0; j < shape.n; j += kRows) {
    const std::int64_t rows = std::min(kRows, shape.n - j);
    multiply_rows_of<kRows, kRegisters>(rows, shape.k, group, b + j * shape.k, transposed.data());
    float* target = c + first_row * shape.n + j;
    for (std::int64_t i = 0; i < columns; ++i, target += shape.n) {
      for (std::int64_t r = 0; r < rows; ++r) {
        target[r] = transposed[static_cast<std::size_t>(r * kColumns + i)];
      }
    }
  }
}

template <std::int64_t kRegisters>
void multiply_group_of(std::int64_t registers, const GemmShape& shape, std::int64_t first_row,
                       const float* group, const float* b, float* c) {
  if constexpr (kRegisters > 0) {
    if (registers == kRegisters) {
      multiply_group<kRegisters>(shape, first_row, group, b, c);
    } else {
      multiply_group_of<kRegisters - 1>(registers, shape, first_row, group, b, c);
    }
  }
}

void multiply_dots(const GemmShape& shape, const float* a, const float* b, float* c, float* group) {
  for (std::int64_t row = 0; row < shape.m; row += kGroup) {
    const std::int64_t rows = std::min(kGroup, shape.m - row);
    const std::int64_t registers = (rows + kWidth - 1) / kWidth;
    for (std::int64_t k = 0; rows < registers * kWidth && k < shape.k; ++k) {
      std::fill(group + k * kGroup + rows, group + k * kGroup + registers * kWidth, 0.0F);
    }
    transpose(rows, shape.k, a + row * shape.k, shape.k, group, kGroup);
    multiply_group_of<kGroups>(registers, shape, row, group, b, c);
  }
}

}  // namespace

bool is_thin_product(const GemmShape& shape) {
  return kHasPanels && !shape.transpose_a && shape.m <= kMostRows && shape.n >= kPanel;
}

std::int64_t thin_product_workspace_bytes(const GemmShape& shape) {
  const std::int64_t floats =
      shape.transpose_b ? kGroup * shape.k : AlongRows::workspace_floats(shape);
  return floats * static_cast<std::int64_t>(sizeof(float)) + 64;
}

void multiply_thin(const GemmShape& shape, const float* a, const float* b, float* c,
                   std::span<std::byte> workspace) {
  float* const floats = reinterpret_cast<float*>(workspace.data());
  if (shape.transpose_b) {
    multiply_dots(shape, a, b, c, floats);
  } else {
    AlongRows(shape, a, b, c, floats).run();
  }
}

}  // namespace superstep::kernels::internal
