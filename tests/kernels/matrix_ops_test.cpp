#include "kernels/matrix_ops.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/channel_sums.h"
#include "tests/kernels/heavy_op_checks.h"
#include "tests/support/error_text.h"

namespace superstep::testing {
namespace {

using kernels::DType;
using kernels::Shape;
using kernels::Tensor;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(MatrixOps, MatchTheReferenceOnTheirExamples) {
  expect_examples_match_reference("matmul", 24);
  expect_examples_match_reference("bias_add", 2);
  expect_examples_match_reference("bias_add_backward", 40);
}

TEST(MatrixOps, MultiplyEmptyBatches) {
  const std::vector<Tensor> inputs = {Tensor::zeros(Shape{0, 4}, DType::kFloat32),
                                      Tensor::zeros(Shape{4, 3}, DType::kFloat32)};
  EXPECT_EQ(kernels::apply("matmul", inputs)[0].shape(), (Shape{0, 3}));
  const std::vector<Tensor> gradient_inputs = {Tensor::zeros(Shape{0, 4}, DType::kFloat32),
                                               Tensor::zeros(Shape{0, 3}, DType::kFloat32)};
  const Tensor gradient = kernels::apply("matmul", gradient_inputs, {{"transpose_a", true}})[0];
  EXPECT_EQ(gradient.shape(), (Shape{4, 3}));
  EXPECT_THAT(gradient.data<float>(), ::testing::Each(0.0F));
}

TEST(MatrixOps, NameOpArgumentAndBothValues) {
  EXPECT_THAT(op_error("matmul", {Shape{2, 3}, Shape{4, 5}}),
              AllOf(HasSubstr("[matmul]"), HasSubstr("with 3"), HasSubstr("with 4")));
  EXPECT_THAT(op_error("matmul", {Shape{2, 3}, Shape{2, 5}}, {{"transpose_a", true}}),
              ::testing::IsEmpty());
  EXPECT_THAT(op_error("matmul", {Shape{2, 3}, Shape{2, 5}}, {{"transpose_b", true}}),
              HasSubstr("(2, 5) transposed"));
  EXPECT_THAT(op_error("matmul", {Shape{2, 3, 1}, Shape{3, 5}}),
              AllOf(HasSubstr("a"), HasSubstr("(2, 3, 1)")));
  EXPECT_THAT(op_error("matmul", {Shape{2, 3}}), HasSubstr("got 1, expected 2"));
  EXPECT_THAT(op_error("bias_add", {Shape{2, 3}, Shape{4}}),
              AllOf(HasSubstr("[bias_add]"), HasSubstr("(4)"), HasSubstr("(3)")));
  EXPECT_THAT(op_error("bias_add", {Shape{2, 3, 4}, Shape{3}}),
              HasSubstr("(N, C) or (N, C, H, W)"));
  EXPECT_THAT(op_error("bias_add_backward", {Shape{3}}), HasSubstr("(N, C) or (N, C, H, W)"));
}

TEST(MatrixOps, RefuseMixedAndIntegerTypes) {
  const std::vector<Tensor> mixed = {Tensor::zeros(Shape{2, 2}, DType::kFloat32),
                                     Tensor::zeros(Shape{2, 2}, DType::kFloat64)};
  EXPECT_THAT(error_text<InvalidArgument>([&] { kernels::apply("matmul", mixed); }),
              AllOf(HasSubstr("float64"), HasSubstr("float32")));
  const std::vector<Tensor> integers = {Tensor::zeros(Shape{2, 2}, DType::kInt32),
                                        Tensor::zeros(Shape{2, 2}, DType::kInt32)};
  EXPECT_THAT(error_text<InvalidArgument>([&] { kernels::apply("matmul", integers); }),
              HasSubstr("int32"));
}

TEST(FixedOrderSum, IsTheSumOfSixteenLanesFoldedInHalves) {
  std::vector<float> values(37);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.1F * static_cast<float>(i) - 1.0F / 3.0F;
  }
  std::vector<float> lanes(16, 0.0F);
  for (std::size_t i = 0; i < values.size(); ++i) {
    lanes[i % 16] += values[i];
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) {
      lanes[i] += lanes[i + half];
    }
  }
  EXPECT_EQ(kernels::fixed_order_sum(values.data(), 37), static_cast<double>(lanes[0]));
}

TEST(FixedOrderSum, HasTheSameBitsAtAnyAddress) {
  const Tensor values = random_tensor({DType::kFloat32, Shape{9001}}, 3);
  std::vector<float> moved(9001 + 5);
  std::copy(values.data<float>().begin(), values.data<float>().end(), moved.begin() + 5);
  EXPECT_EQ(kernels::fixed_order_sum(values.data<float>().data(), 9001),
            kernels::fixed_order_sum(moved.data() + 5, 9001));
}

TEST(FixedOrderSum, StaysNearTheSumInDouble) {
  const Tensor values = random_tensor({DType::kFloat32, Shape{1 << 20}}, 4, 0.0, 1.0);
  double exact = 0.0;
  for (const float value : values.data<float>()) {
    exact += static_cast<double>(value);
  }
  const double got = kernels::fixed_order_sum(values.data<float>().data(), values.num_elements());
  EXPECT_LE(std::abs(got - exact) / exact, 2.0 * std::numeric_limits<float>::epsilon());
}

}  // namespace
}  // namespace superstep::testing
