// An N-dimensional loop over operands that step differently: broadcasting, transposing, cutting
// out.
//
// Dimensions are pushed from the outermost to the innermost, each with its size and one stride per
// operand (0: the operand is repeated); neighbours that can be walked as one are merged, so most
// calls end up with one or two. The innermost dimension is the row, which the caller loops over
// itself. Lives on the stack: building and walking one allocates nothing.
//
//   StridedLoop<2> loop;                                   // two operands
//   loop.push(rows, {columns, 0});
//   loop.push(columns, {1, 1});
//   loop.for_each_row([&](std::array<std::int64_t, 2> offsets) { ... loop.row_length() ... });
#pragma once

#include <array>
#include <cstdint>

#include "kernels/shape.h"

namespace superstep::kernels {

template <int kOperands>
class StridedLoop {
 public:
  using Offsets = std::array<std::int64_t, kOperands>;

  void push(std::int64_t size, const Offsets& strides) {
    if (size == 1) {
      return;
    }
    if (rank_ > 0 && continues_outer(size, strides)) {
      dims_[last()].size *= size;
      dims_[last()].strides = strides;
      return;
    }
    dims_[static_cast<std::size_t>(rank_++)] = {size, strides};
  }

  // The innermost dimension; one element with strides 1 when nothing was pushed.
  std::int64_t row_length() const { return rank_ == 0 ? 1 : dims_[last()].size; }
  std::int64_t row_stride(int operand) const {
    return rank_ == 0 ? 1 : dims_[last()].strides[static_cast<std::size_t>(operand)];
  }

  // Calls function(offsets of the row's first element) in row-major order.
  template <typename Function>
  void for_each_row(Function&& function) const {
    std::array<std::int64_t, kMaxRank> index{};
    Offsets offsets{};
    for (int d = 0; d < rank_; ++d) {
      if (dims_[static_cast<std::size_t>(d)].size == 0) {
        return;
      }
    }
    do {
      function(static_cast<const Offsets&>(offsets));
    } while (advance(index, offsets));
  }

  // Calls function(offsets) for every element, in row-major order.
  template <typename Function>
  void for_each_element(Function&& function) const {
    for_each_row([&](Offsets offsets) {
      for (std::int64_t i = 0; i < row_length(); ++i) {
        function(static_cast<const Offsets&>(offsets));
        for (int k = 0; k < kOperands; ++k) {
          offsets[static_cast<std::size_t>(k)] += row_stride(k);
        }
      }
    });
  }

 private:
  struct Dimension {
    std::int64_t size = 0;
    Offsets strides{};
  };

  std::size_t last() const { return static_cast<std::size_t>(rank_ - 1); }

  bool continues_outer(std::int64_t size, const Offsets& strides) const {
    for (std::size_t k = 0; k < kOperands; ++k) {
      if (dims_[last()].strides[k] != strides[k] * size) {
        return false;
      }
    }
    return true;
  }

  // To the next row; false after the last.
  bool advance(std::array<std::int64_t, kMaxRank>& index, Offsets& offsets) const {
    for (int d = rank_ - 2; d >= 0; --d) {
      const Dimension& dim = dims_[static_cast<std::size_t>(d)];
      std::int64_t& i = index[static_cast<std::size_t>(d)];
      const bool wraps = ++i == dim.size;
      for (std::size_t k = 0; k < kOperands; ++k) {
        offsets[k] += wraps ? -dim.strides[k] * (dim.size - 1) : dim.strides[k];
      }
      if (!wraps) {
        return true;
      }
      i = 0;
    }
    return false;
  }

  int rank_ = 0;
  std::array<Dimension, kMaxRank> dims_{};
};

}  // namespace superstep::kernels
