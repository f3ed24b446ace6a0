// Every op of the table against its naive reference, in every backend, over its examples.
#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "kernels/op_table.h"
#include "tests/kernels/every_op.h"
#include "tests/support/reference_ops.h"

namespace superstep::kernels {
namespace {

constexpr std::uint64_t kSeed = 11;

double epsilon_of(DType dtype) {
  return dtype == DType::kFloat32 ? std::numeric_limits<float>::epsilon()
                                  : std::numeric_limits<double>::epsilon();
}

// Examples have at most some hundred terms per sum: 256 epsilons of the largest value, absolute.
double tolerance(const testing::ReferenceTensor& want, DType dtype) {
  double largest = 1.0;
  for (const double value : want.values) {
    largest = std::max(largest, std::fabs(value));
  }
  return 256.0 * epsilon_of(dtype) * largest;
}

class OpAgainstReference : public ::testing::TestWithParam<OpInfo> {
 protected:
  static void check(const OpInfo& op, const ExampleCall& call, DType dtype, Backend backend) {
    const std::vector<Tensor> inputs = testing::example_inputs(call, dtype, kSeed);
    const std::vector<TensorType> types = types_of(inputs);
    if (!op.is_view && !has_kernel(op, {types, call.attributes}, backend)) {
      return;
    }
    const std::vector<Tensor> got = apply_with(backend, op, inputs, call.attributes);
    const std::vector<testing::ReferenceTensor> want =
        testing::reference_of(op.name)(testing::to_reference(inputs), call.attributes);
    const std::vector<TensorType> inferred = op.infer({types, call.attributes});
    ASSERT_EQ(got.size(), want.size());
    ASSERT_EQ(got.size(), inferred.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].shape(), want[i].shape);
      EXPECT_EQ(got[i].shape(), inferred[i].shape);
      EXPECT_EQ(got[i].dtype(), inferred[i].dtype);
      EXPECT_LE(testing::largest_difference(got[i], want[i]),
                tolerance(want[i], got[i].dtype() == DType::kFloat32 ? DType::kFloat32 : dtype))
          << "output " << i << " of " << op.name << "(" << to_string(types) << ") {"
          << call.attributes.to_string() << "} by " << name_of(backend);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Table, OpAgainstReference,
                         ::testing::ValuesIn(op_table().begin(), op_table().end()), name_of_op);

TEST_P(OpAgainstReference, AgreesInFloat32InEveryBackend) {
  for (const ExampleCall& call : GetParam().examples()) {
    for (const Backend backend :
         {Backend::kReference, Backend::kEigen, Backend::kOneDnn, Backend::kNative}) {
      check(GetParam(), call, DType::kFloat32, backend);
    }
  }
}

TEST_P(OpAgainstReference, AgreesInFloat64InEveryBackend) {
  for (const ExampleCall& call : GetParam().examples()) {
    for (const Backend backend :
         {Backend::kReference, Backend::kEigen, Backend::kOneDnn, Backend::kNative}) {
      check(GetParam(), call, DType::kFloat64, backend);
    }
  }
}

TEST_P(OpAgainstReference, GivesTheSameBitsTwice) {
  for (const ExampleCall& call : GetParam().examples()) {
    const std::vector<Tensor> inputs = testing::example_inputs(call, DType::kFloat32, kSeed);
    const std::vector<Tensor> first = apply(GetParam(), inputs, call.attributes);
    const std::vector<Tensor> second = apply(GetParam(), inputs, call.attributes);
    for (std::size_t i = 0; i < first.size(); ++i) {
      EXPECT_TRUE(testing::same_bits(first[i], second[i])) << GetParam().name;
    }
  }
}

}  // namespace
}  // namespace superstep::kernels
