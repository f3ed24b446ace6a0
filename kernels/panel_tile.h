// Tiles of C in registers, and the copies of A and B that they are made of: what the products of
// kernels/panel_gemm.h and kernels/thin_gemm.h share. Internal to them.
//
// packed A: (steps, kTileRows) for each tile of rows; packed B: (steps, kPanel) for each panel of
// columns. A step is one k, or a pair of them in bf16.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/panel_registers.h"
#include "kernels/precision.h"

namespace superstep::kernels::internal {

inline constexpr std::int64_t kPanel = 2 * kWidth;  // columns of a tile
inline constexpr std::int64_t kTileElements = kTileRows * kPanel;
inline constexpr std::size_t kDeepestStack = 16;  // 2^15 slots

inline std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// A tile of C: rows x kPanel. All loops over rows are unrolled, or the compiler would keep it in
// memory.
template <std::int64_t kRows>
struct Tile {
  Register left[static_cast<std::size_t>(kRows)];
  Register right[static_cast<std::size_t>(kRows)];

  void clear() {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      left[r] = repeat(0.0F);
      right[r] = repeat(0.0F);
    }
  }
  void load_from(const float* c, std::int64_t row_stride) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const float* row = c + static_cast<std::int64_t>(r) * row_stride;
      left[r] = load(row);
      right[r] = load(row + kWidth);
    }
  }
  void store_to(float* c, std::int64_t row_stride) const {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      float* row = c + static_cast<std::int64_t>(r) * row_stride;
      store(row, left[r]);
      store(row + kWidth, right[r]);
    }
  }
  // packed_a: (steps, kTileRows), packed_b: (steps, kPanel).
  template <Precision kPrecision>
  void accumulate(std::int64_t num_steps, const float* packed_a, const float* packed_b) {
    for (std::int64_t step = 0; step < num_steps; ++step) {
      const Register b0 = load(packed_b);
      const Register b1 = load(packed_b + kWidth);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        const Register a = repeat(packed_a[r]);
        left[r] = multiply_step<kPrecision>(a, b0, left[r]);
        right[r] = multiply_step<kPrecision>(a, b1, right[r]);
      }
      packed_a += kTileRows;
      packed_b += kPanel;
    }
  }
  // other + this, as the tree has it.
  void add_to_left(const float* other) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const float* row = other + static_cast<std::int64_t>(r) * kPanel;
      left[r] = add(load(row), left[r]);
      right[r] = add(load(row + kWidth), right[r]);
    }
  }
};

// What a tile is made of and where it goes.
struct TileWork {
  std::int64_t num_steps = 0;
  const float* packed_a = nullptr;
  const float* packed_b = nullptr;
  const float* from = nullptr;  // the sums of the k before these, where there were some
  std::int64_t from_stride = 0;
  float* c = nullptr;
  std::int64_t row_stride = 0;
  bool continues = false;  // there were
};

template <std::int64_t kRows, Precision kPrecision>
void compute_tile(const TileWork& work, std::span<const int> folds) {
  Tile<kRows> tile;
  if (folds.size() == 1) {
    if (work.continues) {
      tile.load_from(work.from, work.from_stride);
    } else {
      tile.clear();
    }
    tile.template accumulate<kPrecision>(work.num_steps, work.packed_a, work.packed_b);
    tile.store_to(work.c, work.row_stride);
    return;
  }
  alignas(64) std::array<float, kDeepestStack * kTileElements> stack;
  std::int64_t depth = 0;
  const std::int64_t run = work.num_steps / static_cast<std::int64_t>(folds.size());
  for (std::size_t slot = 0; slot < folds.size(); ++slot) {
    const std::int64_t first = static_cast<std::int64_t>(slot) * run;
    tile.clear();
    tile.template accumulate<kPrecision>(run, work.packed_a + first * kTileRows,
                                         work.packed_b + first * kPanel);
    for (int fold = 0; fold < folds[slot]; ++fold) {
      --depth;
      tile.add_to_left(stack.data() + depth * kTileElements);
    }
    if (slot + 1 < folds.size()) {
      tile.store_to(stack.data() + depth * kTileElements, kPanel);
      ++depth;
    }
  }
  tile.store_to(work.c, work.row_stride);
}

template <std::int64_t kRows>
void compute_tile_of(std::int64_t rows, const TileWork& work, std::span<const int> folds,
                     Precision precision) {
  if constexpr (kRows > 0) {
    if (rows != kRows) {
      compute_tile_of<kRows - 1>(rows, work, folds, precision);
    } else if (precision == Precision::kBfloat16) {
      compute_tile<kRows, Precision::kBfloat16>(work, folds);
    } else {
      compute_tile<kRows, Precision::kFloat32>(work, folds);
    }
  }
}

}  // namespace superstep::kernels::internal
