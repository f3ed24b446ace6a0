// The loops behind the pooling ops, one image plane at a time (kernels/pool_ops.h has the
// contract).
//
// Each goes tap by tap over a row of outputs, so that the inner loop runs over contiguous outputs
// and vectorises; the strides 1 and 2 are compiled in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/window.h"

namespace superstep::kernels::internal {

// Calls function(stride) with the column stride as a compile-time constant where it is a usual one.
template <typename Function>
inline void with_column_stride(const Window& window, const Function& function) {
  if (window.columns.stride == 1) {
    function(std::integral_constant<std::int64_t, 1>{});
  } else if (window.columns.stride == 2) {
    function(std::integral_constant<std::int64_t, 2>{});
  } else {
    function(window.columns.stride);
  }
}

// Calls function(source_row, tap_column, first, last) for each tap of output row i that lies in the
// image.
template <typename Function>
inline void for_each_tap(const Window& window, std::int64_t i, const Function& function) {
  for (std::int64_t p = 0; p < window.rows.kernel; ++p) {
    const std::int64_t row = window.rows.source(i, p);
    if (row < 0 || row >= window.rows.input) {
      continue;
    }
    for (std::int64_t q = 0; q < window.columns.kernel; ++q) {
      function(row, q, window.columns.first_inside(q), window.columns.last_inside(q));
    }
  }
}

template <typename T, typename Stride>
void max_pool_plane(const Window& window, Stride stride, const T* __restrict x, T* __restrict y,
                    std::int32_t* __restrict argmax) {
  for (std::int64_t i = 0; i < window.rows.output;
       ++i, y += window.columns.output, argmax += window.columns.output) {
    const std::int64_t top = std::max<std::int64_t>(0, window.rows.source(i, 0));
    for (std::int64_t j = 0; j < window.columns.output; ++j) {
      const std::int64_t position =
          top * window.columns.input + std::max<std::int64_t>(0, j * stride - window.columns.begin);
      y[j] = x[position];
      argmax[j] = static_cast<std::int32_t>(position);
    }
    for_each_tap(
        window, i, [&](std::int64_t row, std::int64_t q, std::int64_t first, std::int64_t last) {
          const std::int64_t shift = row * window.columns.input + window.columns.source(0, q);
          for (std::int64_t j = first; j < last; ++j) {
            const T value = x[j * stride + shift];
            const bool larger = (value > y[j]) | ((value != value) & (y[j] == y[j]));
            y[j] = larger ? value : y[j];
            argmax[j] = larger ? static_cast<std::int32_t>(j * stride + shift) : argmax[j];
          }
        });
  }
}

// 1 / (elements of the window inside the image), by row and by column.
inline std::int64_t elements_inside(const Window::Axis& axis, std::int64_t position) {
  const std::int64_t begin = axis.source(position, 0);
  return std::min(axis.input, begin + axis.kernel) - std::max<std::int64_t>(0, begin);
}

template <typename T, typename Stride>
void average_pool_plane(const Window& window, Stride stride, const T* __restrict x,
                        T* __restrict y) {
  for (std::int64_t i = 0; i < window.rows.output; ++i, y += window.columns.output) {
    std::fill(y, y + window.columns.output, T{0});
    for_each_tap(
        window, i, [&](std::int64_t row, std::int64_t q, std::int64_t first, std::int64_t last) {
          const std::int64_t shift = row * window.columns.input + window.columns.source(0, q);
          for (std::int64_t j = first; j < last; ++j) {
            y[j] += x[j * stride + shift];
          }
        });
    const std::int64_t rows = elements_inside(window.rows, i);
    for (std::int64_t j = 0; j < window.columns.output; ++j) {
      y[j] /= static_cast<T>(rows * elements_inside(window.columns, j));
    }
  }
}

// Adds into dx, which starts at zero.
template <typename T, typename Stride>
void average_pool_backward_plane(const Window& window, Stride stride, const T* __restrict dy,
                                 T* __restrict dx) {
  for (std::int64_t i = 0; i < window.rows.output; ++i, dy += window.columns.output) {
    const std::int64_t rows = elements_inside(window.rows, i);
    for_each_tap(
        window, i, [&](std::int64_t row, std::int64_t q, std::int64_t first, std::int64_t last) {
          const std::int64_t shift = row * window.columns.input + window.columns.source(0, q);
          for (std::int64_t j = first; j < last; ++j) {
            dx[j * stride + shift] +=
                dy[j] / static_cast<T>(rows * elements_inside(window.columns, j));
          }
        });
  }
}

}  // namespace superstep::kernels::internal
