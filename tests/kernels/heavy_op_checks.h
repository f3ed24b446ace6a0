// Checks of an op against its naive reference, on every backend that serves the call.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/op_table.h"
#include "tests/support/error_text.h"
#include "tests/support/reference_heavy_ops.h"

namespace superstep::testing {

// Rounding error of a sum of `terms` products of numbers up to 1, generously: half an ulp for each
// product and each partial sum, whose size stays below the number of terms.
inline double rounding_of_sum(kernels::DType dtype, double terms) {
  constexpr double kMargin = 4.0;
  const double epsilon = dtype == kernels::DType::kFloat32 ? std::numeric_limits<float>::epsilon()
                                                           : std::numeric_limits<double>::epsilon();
  return kMargin * epsilon * (terms < 4.0 ? 4.0 : terms);
}

inline std::vector<kernels::Backend> backends_of(const kernels::OpInfo& op,
                                                 std::span<const kernels::Tensor> inputs,
                                                 const kernels::Attributes& attributes) {
  const std::vector<kernels::TensorType> types = kernels::types_of(inputs);
  std::vector<kernels::Backend> backends;
  for (const kernels::KernelEntry& entry : op.kernels) {
    if (kernels::has_kernel(op, {types, attributes}, entry.backend)) {
      backends.push_back(entry.backend);
    }
  }
  return backends;
}

inline void expect_matches_reference(std::string_view name, std::span<const kernels::Tensor> inputs,
                                     const kernels::Attributes& attributes, double tolerance) {
  const kernels::OpInfo& op = kernels::find_op(name);
  const ReferenceFunction reference = heavy_reference(name);
  ASSERT_NE(reference, nullptr) << name;
  const std::vector<ReferenceTensor> want = reference(to_reference(inputs), attributes);
  const std::vector<kernels::Backend> backends = backends_of(op, inputs, attributes);
  ASSERT_FALSE(backends.empty()) << name;
  for (const kernels::Backend backend : backends) {
    const std::vector<kernels::Tensor> got = kernels::apply_with(backend, op, inputs, attributes);
    ASSERT_EQ(got.size(), want.size()) << name;
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_LE(largest_difference(got[i], want[i]), tolerance)
          << name << " on " << kernels::name_of(backend) << ", output " << i << ", inputs "
          << kernels::to_string(kernels::types_of(inputs)) << ", attributes "
          << attributes.to_string();
    }
  }
}

inline void expect_examples_match_reference(std::string_view name, double terms) {
  for (const kernels::DType dtype : {kernels::DType::kFloat32, kernels::DType::kFloat64}) {
    std::uint64_t seed = 1;
    for (const kernels::ExampleCall& example : kernels::find_op(name).examples()) {
      const std::vector<kernels::Tensor> inputs = example_inputs(example, dtype, seed);
      expect_matches_reference(name, inputs, example.attributes, rounding_of_sum(dtype, terms));
      seed += inputs.size();
    }
  }
}

// The text of what `name` throws for float32 inputs of these shapes; empty when it takes them.
inline std::string op_error(std::string_view name, const std::vector<kernels::Shape>& shapes,
                            const kernels::Attributes& attributes = {}) {
  std::vector<kernels::Tensor> inputs;
  inputs.reserve(shapes.size());
  for (const kernels::Shape& shape : shapes) {
    inputs.push_back(kernels::Tensor::zeros(shape, kernels::DType::kFloat32));
  }
  return error_text<InvalidArgument>([&] { kernels::apply(name, inputs, attributes); });
}

}  // namespace superstep::testing
