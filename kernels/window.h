// The sliding window of convolution and pooling over (H, W): size, stride, zero padding, dilation.
//
// Reads the attributes `stride` [2] (rows, columns; default 1, 1), `padding` [4] (top, bottom,
// left, right; default 0) and, where the op has it, `dilation` [2] (default 1, 1), checks them
// against the input and computes the output size
//
//   floor((size + padding - ((kernel - 1) * dilation + 1)) / stride) + 1.
//
// Everything that does not fit is an InvalidArgument which names the op, the attribute and both
// values.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/attributes.h"
#include "kernels/shape.h"

namespace superstep::kernels {

// Of kernel, stride and dilation along one axis. Larger windows are mistakes, and products of two
// such sizes stay far from overflow.
inline constexpr std::int64_t kLargestWindow = std::int64_t{1} << 30;

struct Window {
  // Along one axis; begin and end pad the low and the high side.
  struct Axis {
    std::int64_t kernel = 1;
    std::int64_t stride = 1;
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t dilation = 1;
    std::int64_t input = 0;
    std::int64_t output = 0;

    std::int64_t extent() const { return (kernel - 1) * dilation + 1; }
    // The input position that tap `tap` of output `position` reads; outside [0, input) it is
    // padding.
    std::int64_t source(std::int64_t position, std::int64_t tap) const {
      return position * stride - begin + tap * dilation;
    }
    // The outputs [first, last) whose tap `tap` reads a real input element.
    std::int64_t first_inside(std::int64_t tap) const;
    std::int64_t last_inside(std::int64_t tap) const;
  };

  Axis rows;
  Axis columns;

  std::int64_t input_plane() const { return rows.input * columns.input; }
  std::int64_t output_plane() const { return rows.output * columns.output; }
  std::int64_t taps() const { return rows.kernel * columns.kernel; }
};

// kernel_rows and kernel_columns come from the filter or from the attribute `kernel`.
Window make_window(std::string_view op, const Attributes& attributes, std::int64_t kernel_rows,
                   std::int64_t kernel_columns, std::int64_t input_rows,
                   std::int64_t input_columns);

// As above with the sizes in the attribute `kernel` [2]; padding must be smaller than the kernel,
// so that every window of a pool sees at least one element.
Window make_pool_window(std::string_view op, const Attributes& attributes, const Shape& input);

// The attribute `name` as a shape of four non-negative sizes.
Shape shape_attribute(std::string_view op, const Attributes& attributes, std::string_view name);

}  // namespace superstep::kernels
