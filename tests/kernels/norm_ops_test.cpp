#include "kernels/norm_ops.h"

#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/kernels/heavy_op_checks.h"

namespace superstep::testing {
namespace {

using kernels::Attributes;
using kernels::DType;
using kernels::Shape;
using kernels::Tensor;
using ::testing::AllOf;
using ::testing::HasSubstr;

// The outputs are of the order of 1 / sqrt(variance + epsilon): a few units.
constexpr double kTerms = 64;

std::vector<Tensor> parameters(DType dtype, std::int64_t channels, std::uint64_t seed) {
  return {random_tensor({dtype, Shape{channels}}, seed, 0.5, 1.5),
          random_tensor({dtype, Shape{channels}}, seed + 1)};
}

TEST(NormOps, MatchTheReferenceOnTheirExamples) {
  for (const char* op : {"batch_norm", "batch_norm_backward", "batch_norm_inference"}) {
    expect_examples_match_reference(op, kTerms);
  }
}

TEST(NormOps, MatchTheReferenceOnLargeAndOddShapes) {
  const Attributes attributes = {{"epsilon", 1e-5}};
  for (const Shape& shape : {Shape{16, 16, 32, 32}, Shape{3, 5, 7, 9}, Shape{2, 3, 101, 67},
                             Shape{128, 200}, Shape{1, 4, 2, 2}, Shape{5, 1, 3}}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      const Tensor x = random_tensor({dtype, shape}, 1);
      const Tensor grad = random_tensor({dtype, shape}, 2);
      const std::vector<Tensor> gamma_beta = parameters(dtype, shape[1], 3);
      expect_matches_reference("batch_norm", std::vector<Tensor>{x, gamma_beta[0], gamma_beta[1]},
                               attributes, rounding_of_sum(dtype, kTerms));
      const std::vector<Tensor> y = kernels::apply(
          "batch_norm", std::vector<Tensor>{x, gamma_beta[0], gamma_beta[1]}, attributes);
      // dgamma and dbeta are sums over all samples.
      const double terms = static_cast<double>(x.num_elements() / shape[1]) + kTerms;
      expect_matches_reference("batch_norm_backward",
                               std::vector<Tensor>{grad, x, gamma_beta[0], y[1], y[2]}, attributes,
                               rounding_of_sum(dtype, terms));
      expect_matches_reference("batch_norm_inference",
                               std::vector<Tensor>{x, gamma_beta[0], gamma_beta[1], y[1], y[2]},
                               attributes, rounding_of_sum(dtype, kTerms));
    }
  }
}

// One pass over x and x^2 would lose the variance here.
TEST(BatchNorm, KeepsTheVarianceFarFromZero) {
  Tensor x = random_tensor({DType::kFloat32, Shape{8, 2, 16, 16}}, 1);
  for (float& value : x.mutable_data<float>()) {
    value = value * 0.5F + 4096.0F;
  }
  const std::vector<Tensor> gamma_beta = parameters(DType::kFloat32, 2, 3);
  const std::vector<Tensor> inputs = {x, gamma_beta[0], gamma_beta[1]};
  const std::vector<Tensor> y = kernels::apply("batch_norm", inputs, {{"epsilon", 1e-5}});
  const std::vector<ReferenceTensor> want =
      heavy_reference("batch_norm")(to_reference(inputs), {{"epsilon", 1e-5}});
  for (std::size_t c = 0; c < 2; ++c) {
    EXPECT_NEAR(static_cast<double>(y[2].data<float>()[c]), want[2].values[c], 1e-5);
  }
}

TEST(BatchNorm, GivesZerosForAnEmptyBatch) {
  const std::vector<Tensor> gamma_beta = parameters(DType::kFloat32, 3, 3);
  const Tensor x = Tensor::zeros(Shape{0, 3, 4, 4}, DType::kFloat32);
  const std::vector<Tensor> y = kernels::apply(
      "batch_norm", std::vector<Tensor>{x, gamma_beta[0], gamma_beta[1]}, {{"epsilon", 1e-5}});
  EXPECT_EQ(y[0].shape(), x.shape());
  EXPECT_THAT(y[1].data<float>(), ::testing::Each(0.0F));
  EXPECT_THAT(y[2].data<float>(), ::testing::Each(0.0F));
  const std::vector<Tensor> d =
      kernels::apply("batch_norm_backward", std::vector<Tensor>{x, x, gamma_beta[0], y[1], y[2]},
                     {{"epsilon", 1e-5}});
  EXPECT_THAT(d[1].data<float>(), ::testing::Each(0.0F));
  EXPECT_THAT(d[2].data<float>(), ::testing::Each(0.0F));
}

TEST(NormOps, NameOpArgumentAndBothValues) {
  const Attributes good = {{"epsilon", 1e-5}};
  const Shape x{2, 3, 4, 4};
  const Shape c{3};
  EXPECT_THAT(
      op_error("batch_norm", {x, Shape{4}, c}, good),
      AllOf(HasSubstr("[batch_norm]"), HasSubstr("gamma"), HasSubstr("(4)"), HasSubstr("(3)")));
  EXPECT_THAT(op_error("batch_norm", {x, c, c}, {{"epsilon", 0.0}}),
              AllOf(HasSubstr("epsilon"), HasSubstr("got 0")));
  EXPECT_THAT(op_error("batch_norm", {x, c, c}, {{"epsilon", std::nan("")}}), HasSubstr("epsilon"));
  EXPECT_THAT(op_error("batch_norm", {x, c, c}, {}), HasSubstr("epsilon"));
  EXPECT_THAT(op_error("batch_norm", {Shape{3}, c, c}, good), HasSubstr("rank"));
  EXPECT_THAT(op_error("batch_norm_backward", {Shape{2, 3, 4, 5}, x, c, c, c}, good),
              AllOf(HasSubstr("grad"), HasSubstr("(2, 3, 4, 5)"), HasSubstr("(2, 3, 4, 4)")));
  EXPECT_THAT(op_error("batch_norm_inference", {x, c, c, c, Shape{5}}, good),
              AllOf(HasSubstr("variance"), HasSubstr("(5)")));
}

}  // namespace
}  // namespace superstep::testing
