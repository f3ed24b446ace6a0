#include "kernels/pool_ops.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"
#include "tests/kernels/heavy_op_checks.h"
#include "tests/support/error_text.h"

namespace superstep::testing {
namespace {

using kernels::Attributes;
using kernels::DType;
using kernels::Shape;
using kernels::Tensor;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Sizes = std::vector<std::int64_t>;

Sizes sizes_of(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

TEST(PoolOps, MatchTheReferenceOnTheirExamples) {
  expect_examples_match_reference("max_pool", 1);
  expect_examples_match_reference("max_pool_backward", 8);
  expect_examples_match_reference("max_pool_gather", 1);
  expect_examples_match_reference("average_pool", 9);
  expect_examples_match_reference("average_pool_backward", 9);
  expect_examples_match_reference("global_average_pool", 20);
  expect_examples_match_reference("global_average_pool_backward", 1);
}

TEST(PoolOps, MatchTheReferenceAtRandomWindows) {
  PhiloxStream random(7, stream_id("pool_ops_test"));
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return low +
           static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(high - low + 1)));
  };
  for (std::uint64_t trial = 0; trial < 80; ++trial) {
    const Sizes kernel = {pick(1, 4), pick(1, 4)};
    const Sizes stride = {pick(1, 4), pick(1, 4)};
    const Sizes padding = {pick(0, kernel[0] - 1), pick(0, kernel[0] - 1), pick(0, kernel[1] - 1),
                           pick(0, kernel[1] - 1)};
    const Shape x{pick(1, 3), pick(1, 3), kernel[0] + pick(0, 20), kernel[1] + pick(0, 40)};
    const DType dtype = trial % 2 == 0 ? DType::kFloat32 : DType::kFloat64;
    const Attributes window = {{"kernel", kernel}, {"stride", stride}, {"padding", padding}};
    const Attributes backward = {
        {"kernel", kernel}, {"stride", stride}, {"padding", padding}, {"input_shape", sizes_of(x)}};
    const Tensor images = random_tensor({dtype, x}, 10 * trial);
    expect_matches_reference("max_pool", std::vector<Tensor>{images}, window, 0.0);
    expect_matches_reference("average_pool", std::vector<Tensor>{images}, window,
                             rounding_of_sum(dtype, 16));
    const std::vector<Tensor> pooled =
        kernels::apply("max_pool", std::vector<Tensor>{images}, window);
    const Tensor grad = random_tensor({dtype, pooled[0].shape()}, 10 * trial + 1);
    expect_matches_reference("max_pool_backward", std::vector<Tensor>{grad, pooled[1]},
                             {{"input_shape", sizes_of(x)}}, rounding_of_sum(dtype, 16));
    expect_matches_reference("max_pool_gather", std::vector<Tensor>{images, pooled[1]}, {}, 0.0);
    expect_matches_reference("average_pool_backward", std::vector<Tensor>{grad}, backward,
                             rounding_of_sum(dtype, 16));
  }
}

TEST(MaxPool, TakesTheFirstOfEqualsAndPropagatesNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::from<float>(
      Shape{1, 1, 2, 8}, std::vector<float>{1, 3, 0, nan, -infinity, -infinity, 2, 2,  //
                                            3, 1, nan, 9, -infinity, -infinity, 2, 2});
  const std::vector<Tensor> y = kernels::apply("max_pool", std::vector<Tensor>{x},
                                               {{"kernel", Sizes{2, 2}}, {"stride", Sizes{2, 2}}});
  EXPECT_THAT(y[1].data<std::int32_t>(), ElementsAre(1, 3, 4, 6));
  EXPECT_EQ(y[0].data<float>()[0], 3.0F);
  EXPECT_TRUE(std::isnan(y[0].data<float>()[1]));
  EXPECT_EQ(y[0].data<float>()[2], -infinity);
  EXPECT_EQ(y[0].data<float>()[3], 2.0F);
}

TEST(MaxPool, NeverPicksPadding) {
  const Tensor x = Tensor::full(Shape{1, 1, 3, 3}, DType::kFloat64, -5.0);
  const std::vector<Tensor> y = kernels::apply(
      "max_pool", std::vector<Tensor>{x},
      {{"kernel", Sizes{3, 3}}, {"stride", Sizes{2, 2}}, {"padding", Sizes{2, 2, 2, 2}}});
  EXPECT_THAT(y[0].data<double>(), ::testing::Each(-5.0));
  EXPECT_THAT(y[1].data<std::int32_t>(), ElementsAre(0, 0, 2, 0, 0, 2, 6, 6, 8));
}

// 65 x 65 taps for 33 x 33 outputs are too many to tabulate.
TEST(MaxPool, ServesWindowsTooLargeForATable) {
  const Tensor x = random_tensor({DType::kFloat32, Shape{1, 1, 65, 65}}, 3);
  expect_matches_reference("max_pool", std::vector<Tensor>{x},
                           {{"kernel", Sizes{65, 65}}, {"padding", Sizes{16, 16, 16, 16}}}, 0.0);
}

TEST(MaxPool, BackwardRefusesPositionsOutsideThePlane) {
  const Tensor grad = Tensor::zeros(Shape{1, 1, 1, 2}, DType::kFloat32);
  for (const std::int32_t bad : {-1, 12}) {
    const Tensor argmax =
        Tensor::from<std::int32_t>(Shape{1, 1, 1, 2}, std::vector<std::int32_t>{3, bad});
    EXPECT_THAT(error_text<InvalidArgument>([&] {
                  kernels::apply("max_pool_backward", std::vector<Tensor>{grad, argmax},
                                 {{"input_shape", Sizes{1, 1, 3, 4}}});
                }),
                AllOf(HasSubstr("[max_pool_backward]"), HasSubstr(std::to_string(bad)),
                      HasSubstr("0 to 11")));
    EXPECT_THAT(error_text<InvalidArgument>([&] {
                  kernels::apply("max_pool_gather",
                                 std::vector<Tensor>{
                                     Tensor::zeros(Shape{1, 1, 3, 4}, DType::kFloat32), argmax});
                }),
                HasSubstr("[max_pool_gather]"));
  }
}

TEST(AveragePool, DoesNotCountPadding) {
  const Tensor x = Tensor::full(Shape{1, 1, 4, 5}, DType::kFloat32, 2.5);
  const Tensor y = kernels::apply1("average_pool", {x},
                                   {{"kernel", Sizes{3, 3}}, {"padding", Sizes{1, 1, 1, 1}}});
  EXPECT_EQ(y.shape(), x.shape());
  EXPECT_THAT(y.data<float>(), ::testing::Each(2.5F));
}

TEST(PoolOps, ServeEmptyBatches) {
  const Tensor x = Tensor::zeros(Shape{0, 3, 4, 4}, DType::kFloat32);
  const std::vector<Tensor> y =
      kernels::apply("max_pool", std::vector<Tensor>{x}, {{"kernel", Sizes{2, 2}}});
  EXPECT_EQ(y[0].shape(), (Shape{0, 3, 3, 3}));
  EXPECT_EQ(kernels::apply1("global_average_pool", {x}).shape(), (Shape{0, 3}));
  EXPECT_EQ(kernels::apply1("max_pool_backward", {y[0], y[1]}, {{"input_shape", Sizes{0, 3, 4, 4}}})
                .shape(),
            x.shape());
}

TEST(PoolOps, NameOpArgumentAndBothValues) {
  const Shape x{1, 2, 5, 6};
  EXPECT_THAT(op_error("max_pool", {x}),
              AllOf(HasSubstr("[max_pool]"), HasSubstr("kernel"), HasSubstr("missing")));
  EXPECT_THAT(op_error("max_pool", {x}, {{"kernel", Sizes{6, 1}}}),
              AllOf(HasSubstr("rows"), HasSubstr("got 6"), HasSubstr("= 5")));
  EXPECT_THAT(op_error("max_pool", {x}, {{"kernel", Sizes{2, 2}}, {"stride", Sizes{1, 0}}}),
              HasSubstr("stride"));
  EXPECT_THAT(
      op_error("average_pool", {x}, {{"kernel", Sizes{2, 2}}, {"padding", Sizes{2, 0, 0, 0}}}),
      AllOf(HasSubstr("[average_pool]"), HasSubstr("padding"), HasSubstr("got 2"),
            HasSubstr("kernel size 2")));
  EXPECT_THAT(op_error("average_pool", {Shape{5, 6}}, {{"kernel", Sizes{2, 2}}}),
              HasSubstr("(5, 6)"));
  EXPECT_THAT(op_error("average_pool_backward", {x},
                       {{"kernel", Sizes{2, 2}}, {"input_shape", Sizes{1, 2, 5, 6}}}),
              AllOf(HasSubstr("(1, 2, 5, 6)"), HasSubstr("(1, 2, 4, 5)")));
  EXPECT_THAT(op_error("global_average_pool", {Shape{1, 2, 0, 6}}),
              HasSubstr("at least one element"));
  EXPECT_THAT(
      op_error("global_average_pool_backward", {Shape{1, 3}}, {{"input_shape", Sizes{1, 2, 5, 6}}}),
      AllOf(HasSubstr("(1, 3)"), HasSubstr("(1, 2)")));
}

}  // namespace
}  // namespace superstep::testing
