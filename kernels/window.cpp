#include "kernels/window.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace superstep::kernels {
namespace {

std::vector<std::int64_t> window_attribute(std::string_view op, const Attributes& attributes,
                                           std::string_view name,
                                           std::vector<std::int64_t> defaults, std::int64_t least) {
  const std::size_t count = defaults.size();
  std::vector<std::int64_t> values =
      attributes.contains(name) ? attributes.integers(name) : std::move(defaults);
  if (values.size() != count) {
    throw InvalidArgument(op, fmt::format("attribute {}: got {} values ({}), expected {}", name,
                                          values.size(), fmt::join(values, ", "), count));
  }
  for (const std::int64_t value : values) {
    if (value < least || value > kLargestWindow) {
      throw InvalidArgument(op, fmt::format("attribute {}: got ({}), expected values from {} to {}",
                                            name, fmt::join(values, ", "), least, kLargestWindow));
    }
  }
  return values;
}

void finish_axis(std::string_view op, std::string_view axis_name, Window::Axis& axis) {
  const auto fail = [&](std::string_view what, std::int64_t got, std::string_view expected) {
    throw InvalidArgument(
        op, fmt::format("{} ({}): got {}, expected {}", what, axis_name, got, expected));
  };
  if (axis.kernel < 1 || axis.kernel > kLargestWindow) {
    fail("kernel size", axis.kernel, fmt::format("a value from 1 to {}", kLargestWindow));
  }
  if (axis.input < 1 ||
      axis.input > std::numeric_limits<std::int64_t>::max() - 2 * kLargestWindow) {
    fail("input size", axis.input, "at least 1");
  }
  const std::int64_t padded = axis.input + axis.begin + axis.end;
  if (axis.extent() > padded) {
    fail("kernel extent (size and dilation)", axis.extent(),
         fmt::format("at most the padded input, {} + {} + {} = {}", axis.begin, axis.input,
                     axis.end, padded));
  }
  axis.output = (padded - axis.extent()) / axis.stride + 1;
}

}  // namespace

std::int64_t Window::Axis::first_inside(std::int64_t tap) const {
  const std::int64_t missing = begin - tap * dilation;  // position * stride >= missing
  return missing <= 0 ? 0 : std::min(output, (missing + stride - 1) / stride);
}

std::int64_t Window::Axis::last_inside(std::int64_t tap) const {
  const std::int64_t room = input - 1 + begin - tap * dilation;  // position * stride <= room
  return room < 0 ? 0 : std::min(output, room / stride + 1);
}

Window make_window(std::string_view op, const Attributes& attributes, std::int64_t kernel_rows,
                   std::int64_t kernel_columns, std::int64_t input_rows,
                   std::int64_t input_columns) {
  const auto stride = window_attribute(op, attributes, "stride", {1, 1}, 1);
  const auto padding = window_attribute(op, attributes, "padding", {0, 0, 0, 0}, 0);
  const auto dilation = window_attribute(op, attributes, "dilation", {1, 1}, 1);
  Window window;
  window.rows = {kernel_rows, stride[0], padding[0], padding[1], dilation[0], input_rows, 0};
  window.columns = {kernel_columns, stride[1],     padding[2], padding[3],
                    dilation[1],    input_columns, 0};
  finish_axis(op, "rows", window.rows);
  finish_axis(op, "columns", window.columns);
  return window;
}

Window make_pool_window(std::string_view op, const Attributes& attributes, const Shape& input) {
  if (!attributes.contains("kernel")) {
    throw InvalidArgument(op, "attribute kernel: missing, expected 2 values (rows, columns)");
  }
  const auto kernel = window_attribute(op, attributes, "kernel", {1, 1}, 1);
  const Window window = make_window(op, attributes, kernel[0], kernel[1], input[2], input[3]);
  for (const Window::Axis& axis : {window.rows, window.columns}) {
    if (std::max(axis.begin, axis.end) >= axis.kernel) {
      throw InvalidArgument(
          op, fmt::format("attribute padding: got {}, expected less than the kernel size {}",
                          std::max(axis.begin, axis.end), axis.kernel));
    }
    if (axis.dilation != 1) {
      throw InvalidArgument(
          op, fmt::format("attribute dilation: got {}, expected 1 (pools are not dilated)",
                          axis.dilation));
    }
  }
  return window;
}

Shape shape_attribute(std::string_view op, const Attributes& attributes, std::string_view name) {
  if (!attributes.contains(name)) {
    throw InvalidArgument(op, fmt::format("attribute {}: missing, expected 4 sizes", name));
  }
  return Shape(window_attribute(op, attributes, name, {0, 0, 0, 0}, 0));
}

}  // namespace superstep::kernels
