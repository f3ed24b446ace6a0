// The loops behind the pooling ops, one image plane at a time (kernels/pool_ops.h has the
// contract).
//
// Pooling windows are irregular at the borders and their rows are short, so what can be known
// before the first run is tabulated when a kernel is made: which element each tap of each window
// reads (max_pool_positions), and over how many elements each window averages (elements_inside).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/window.h"

namespace superstep::kernels::internal {

// Whether the table of positions is small enough to make: 16 MiB of entries are made quickly and
// seldom needed.
inline bool has_position_table(const Window& window) {
  constexpr std::int64_t kLargestTable = std::int64_t{1} << 22;
  return window.taps() <= kLargestTable / window.output_plane();
}

// positions[tap][output]: the flat position in the input plane. A tap in the padding reads the
// nearest element inside the image; that one belongs to the window too (padding is smaller than the
// kernel) and is met in row-major order all the same, so that it changes neither the maximum nor
// the first on ties.
inline std::vector<std::int32_t> max_pool_positions(const Window& window) {
  const auto inside = [](const Window::Axis& axis, std::int64_t position, std::int64_t tap) {
    return std::clamp<std::int64_t>(axis.source(position, tap), 0, axis.input - 1);
  };
  std::vector<std::int32_t> positions;
  positions.reserve(static_cast<std::size_t>(window.taps() * window.output_plane()));
  for (std::int64_t p = 0; p < window.rows.kernel; ++p) {
    for (std::int64_t q = 0; q < window.columns.kernel; ++q) {
      for (std::int64_t i = 0; i < window.rows.output; ++i) {
        for (std::int64_t j = 0; j < window.columns.output; ++j) {
          positions.push_back(static_cast<std::int32_t>(
              inside(window.rows, i, p) * window.columns.input + inside(window.columns, j, q)));
        }
      }
    }
  }
  return positions;
}

// Runs over all outputs of the plane for each tap: one long loop without branches, which
// vectorises.
template <typename T>
void max_pool_plane(const std::int32_t* __restrict positions, std::int64_t taps,
                    std::int64_t outputs, const T* __restrict x, T* __restrict y,
                    std::int32_t* __restrict argmax) {
  for (std::int64_t k = 0; k < outputs; ++k) {
    y[k] = x[positions[k]];
    argmax[k] = positions[k];
  }
  for (std::int64_t tap = 1; tap < taps; ++tap) {
    positions += outputs;
    for (std::int64_t k = 0; k < outputs; ++k) {
      const T value = x[positions[k]];
      const T best = y[k];
      const bool larger = !(value <= best) & (best == best);  // a NaN replaces and stays
      y[k] = larger ? value : best;
      argmax[k] = larger ? positions[k] : argmax[k];
    }
  }
}

// The same window by window without a table, for windows too large for one.
template <typename T>
void max_pool_plane(const Window& window, const T* x, T* y, std::int32_t* argmax) {
  for (std::int64_t i = 0; i < window.rows.output; ++i) {
    for (std::int64_t j = 0; j < window.columns.output; ++j, ++y, ++argmax) {
      const std::int64_t top = window.rows.source(i, 0);
      const std::int64_t left = window.columns.source(j, 0);
      const std::int64_t first_row = std::max<std::int64_t>(0, top);
      const std::int64_t first_column = std::max<std::int64_t>(0, left);
      std::int64_t best = first_row * window.columns.input + first_column;
      for (std::int64_t h = first_row; h < std::min(window.rows.input, top + window.rows.kernel);
           ++h) {
        for (std::int64_t w = first_column;
             w < std::min(window.columns.input, left + window.columns.kernel); ++w) {
          const std::int64_t position = h * window.columns.input + w;
          best = !(x[position] <= x[best]) & (x[best] == x[best]) ? position : best;
        }
      }
      *y = x[best];
      *argmax = static_cast<std::int32_t>(best);
    }
  }
}

// target[argmax[k]] += gradient(k), in the order of k.
template <typename T, typename Gradient>
inline void add_at_maxima(const std::int32_t* argmax, std::int64_t outputs,
                          const Gradient& gradient, T* target) {
  for (std::int64_t k = 0; k < outputs; ++k) {
    target[argmax[k]] += gradient(k);
  }
}

// Per output of a plane, how many elements of its window lie inside the image.
inline std::vector<double> elements_inside(const Window& window) {
  const auto inside = [](const Window::Axis& axis, std::int64_t position) {
    const std::int64_t begin = axis.source(position, 0);
    return std::min(axis.input, begin + axis.kernel) - std::max<std::int64_t>(0, begin);
  };
  std::vector<double> counts;
  for (std::int64_t i = 0; i < window.rows.output; ++i) {
    for (std::int64_t j = 0; j < window.columns.output; ++j) {
      counts.push_back(static_cast<double>(inside(window.rows, i) * inside(window.columns, j)));
    }
  }
  return counts;
}

// Calls function(tap column, output row, source row), tap by tap, for the rows that lie in the
// image.
template <typename Function>
inline void for_each_row_of_taps(const Window& window, const Function& function) {
  for (std::int64_t p = 0; p < window.rows.kernel; ++p) {
    for (std::int64_t q = 0; q < window.columns.kernel; ++q) {
      const std::int64_t last = window.rows.last_inside(p);
      for (std::int64_t i = window.rows.first_inside(p); i < last; ++i) {
        function(q, i, window.rows.source(i, p));
      }
    }
  }
}

template <typename T>
void average_pool_plane(const Window& window, const double* counts, const T* __restrict x,
                        T* __restrict y) {
  std::fill(y, y + window.output_plane(), T{0});
  const std::int64_t stride = window.columns.stride;
  for_each_row_of_taps(window, [&](std::int64_t q, std::int64_t i, std::int64_t source_row) {
    const T* line = x + source_row * window.columns.input;
    T* row = y + i * window.columns.output;
    const std::int64_t shift = window.columns.source(0, q);
    const std::int64_t last = window.columns.last_inside(q);
    for (std::int64_t j = window.columns.first_inside(q); j < last; ++j) {
      row[j] += line[j * stride + shift];
    }
  });
  for (std::int64_t k = 0; k < window.output_plane(); ++k) {
    y[k] /= static_cast<T>(counts[k]);
  }
}

template <typename T>
void average_pool_backward_plane(const Window& window, const double* counts, const T* __restrict dy,
                                 T* __restrict dx) {
  std::fill(dx, dx + window.input_plane(), T{0});
  const std::int64_t stride = window.columns.stride;
  for_each_row_of_taps(window, [&](std::int64_t q, std::int64_t i, std::int64_t source_row) {
    T* line = dx + source_row * window.columns.input;
    const T* row = dy + i * window.columns.output;
    const double* count = counts + i * window.columns.output;
    const std::int64_t shift = window.columns.source(0, q);
    const std::int64_t last = window.columns.last_inside(q);
    for (std::int64_t j = window.columns.first_inside(q); j < last; ++j) {
      line[j * stride + shift] += row[j] / static_cast<T>(count[j]);
    }
  });
}

}  // namespace superstep::kernels::internal
