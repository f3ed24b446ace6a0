#include "kernels/signature_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace superstep::kernels {

void fail_argument(std::string_view op, std::string_view argument, std::string_view got,
                   std::string_view expected) {
  throw InvalidArgument(op,
                        fmt::format("argument {}: got {}, expected {}", argument, got, expected));
}

void expect_num_inputs(std::string_view op, const OpSignature& signature, int expected) {
  if (signature.inputs.size() != static_cast<std::size_t>(expected)) {
    throw InvalidArgument(op, fmt::format("number of inputs: got {}, expected {}",
                                          signature.inputs.size(), expected));
  }
}

void expect_floating(std::string_view op, std::string_view argument, const TensorType& type) {
  if (!is_floating_point(type.dtype)) {
    fail_argument(op, argument, name_of(type.dtype), "float32 or float64");
  }
}

void expect_index(std::string_view op, std::string_view argument, const TensorType& type) {
  if (!is_integer(type.dtype)) {
    fail_argument(op, argument, name_of(type.dtype), "int32 or int64");
  }
}

void expect_dtype(std::string_view op, std::string_view argument, const TensorType& type,
                  DType expected) {
  if (type.dtype != expected) {
    fail_argument(op, argument, name_of(type.dtype), name_of(expected));
  }
}

void expect_rank(std::string_view op, std::string_view argument, const TensorType& type,
                 int expected) {
  if (type.shape.rank() != expected) {
    fail_argument(op, argument,
                  fmt::format("shape {} of rank {}", type.shape.to_string(), type.shape.rank()),
                  fmt::format("rank {}", expected));
  }
}

void expect_min_rank(std::string_view op, std::string_view argument, const TensorType& type,
                     int expected) {
  if (type.shape.rank() < expected) {
    fail_argument(op, argument,
                  fmt::format("shape {} of rank {}", type.shape.to_string(), type.shape.rank()),
                  fmt::format("rank of at least {}", expected));
  }
}

void expect_shape(std::string_view op, std::string_view argument, const TensorType& type,
                  const Shape& expected) {
  if (type.shape != expected) {
    fail_argument(op, argument, fmt::format("shape {}", type.shape.to_string()),
                  fmt::format("shape {}", expected.to_string()));
  }
}

void expect_floating_inputs(std::string_view op, const OpSignature& signature,
                            std::initializer_list<std::string_view> names) {
  expect_num_inputs(op, signature, static_cast<int>(names.size()));
  std::size_t index = 0;
  for (const std::string_view name : names) {
    expect_floating(op, name, signature.inputs[index]);
    expect_dtype(op, name, signature.inputs[index], signature.inputs[0].dtype);
    ++index;
  }
}

void expect_values(std::string_view op, std::string_view argument,
                   const std::vector<std::int64_t>& values, std::size_t expected,
                   std::int64_t least) {
  bool valid = values.size() == expected;
  for (const std::int64_t value : values) {
    valid = valid && value >= least;
  }
  if (!valid) {
    fail_argument(op, argument, fmt::format("[{}]", fmt::join(values, ", ")),
                  fmt::format("{} values, each at least {}", expected, least));
  }
}

int expect_axis(std::string_view op, std::string_view argument, const Shape& shape,
                std::int64_t axis) {
  if (axis < -shape.rank() || axis >= shape.rank()) {
    fail_argument(op, argument, fmt::format("axis {}", axis),
                  fmt::format("an axis from {} to {} of shape {}", -shape.rank(), shape.rank() - 1,
                              shape.to_string()));
  }
  return shape.axis(axis);
}

}  // namespace superstep::kernels
