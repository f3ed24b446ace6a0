// Naive references for products, convolutions, pools and norms: loops in double, straight from the
// formulas, sharing no code with the kernels. The oracle of their tests.
//
//   ReferenceFunction f = heavy_reference("conv2d");
//   std::vector<ReferenceTensor> want = f(to_reference(inputs), attributes);
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "kernels/op.h"

namespace superstep::testing {

struct ReferenceTensor {
  kernels::Shape shape;
  std::vector<double> values;  // integers too
};

using ReferenceFunction = std::vector<ReferenceTensor> (*)(std::span<const ReferenceTensor> inputs,
                                                           const kernels::Attributes& attributes);

// Null for an op this file does not know.
ReferenceFunction heavy_reference(std::string_view op);

ReferenceTensor reference_zeros(const kernels::Shape& shape);

std::vector<ReferenceTensor> to_reference(std::span<const kernels::Tensor> tensors);

// Uniform in [low, high), a function of seed and index; integers below high.
kernels::Tensor random_tensor(const kernels::TensorType& type, std::uint64_t seed,
                              double low = -1.0, double high = 1.0);
// One per input of the example, in its ranges; floating-point inputs as `dtype`.
std::vector<kernels::Tensor> example_inputs(const kernels::ExampleCall& example,
                                            kernels::DType dtype, std::uint64_t seed);

// max |got - want|; infinite when shapes differ or exactly one of two is NaN.
double largest_difference(const kernels::Tensor& got, const ReferenceTensor& want);

bool same_bits(const kernels::Tensor& a, const kernels::Tensor& b);

}  // namespace superstep::testing
