#include "kernels/conv_ops.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/philox.h"
#include "kernels/convolution.h"
#include "tests/kernels/heavy_op_checks.h"

namespace superstep::testing {
namespace {

using kernels::Attributes;
using kernels::Convolution;
using kernels::DType;
using kernels::Shape;
using kernels::Tensor;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Sizes = std::vector<std::int64_t>;

struct Case {
  Shape x;
  Shape filter;
  Sizes stride = {1, 1};
  Sizes padding = {0, 0, 0, 0};
  Sizes dilation = {1, 1};

  Attributes window() const {
    return {{"stride", stride}, {"padding", padding}, {"dilation", dilation}};
  }
  Attributes with(const char* name, const Shape& shape) const {
    return {{"stride", stride},
            {"padding", padding},
            {"dilation", dilation},
            {name, Sizes(shape.sizes().begin(), shape.sizes().end())}};
  }
  Convolution convolution() const { return kernels::make_convolution("test", x, filter, window()); }
};

void expect_three_passes_match(const Case& c, DType dtype, std::uint64_t seed) {
  const Tensor x = random_tensor({dtype, c.x}, seed);
  const Tensor filter = random_tensor({dtype, c.filter}, seed + 1);
  const Tensor grad = random_tensor({dtype, c.convolution().output_shape()}, seed + 2);
  const double terms = static_cast<double>(c.convolution().patch_size());
  const double filter_terms = static_cast<double>(c.x[0] * c.convolution().window.output_plane());
  const double input_terms = static_cast<double>(c.filter[0] * c.convolution().window.taps());
  expect_matches_reference("conv2d", std::vector<Tensor>{x, filter}, c.window(),
                           rounding_of_sum(dtype, terms));
  expect_matches_reference("conv2d_backward_input", std::vector<Tensor>{grad, filter},
                           c.with("input_shape", c.x), rounding_of_sum(dtype, input_terms));
  expect_matches_reference("conv2d_backward_filter", std::vector<Tensor>{x, grad},
                           c.with("filter_shape", c.filter), rounding_of_sum(dtype, filter_terms));
}

TEST(ConvOps, MatchTheReferenceOnTheirExamples) {
  for (const char* op : {"conv2d", "conv2d_backward_input", "conv2d_backward_filter"}) {
    expect_examples_match_reference(op, 64);
  }
}

TEST(ConvOps, MatchTheReferenceOnTheModelsShapes) {
  const std::vector<Case> cases = {
      {Shape{2, 1, 28, 28}, Shape{32, 1, 5, 5}, {1, 1}, {2, 2, 2, 2}},  // McMahan's CNN
      {Shape{1, 32, 14, 14}, Shape{64, 32, 5, 5}, {1, 1}, {2, 2, 2, 2}},
      {Shape{2, 3, 32, 32}, Shape{16, 3, 3, 3}, {1, 1}, {1, 1, 1, 1}},  // ResNet-20
      {Shape{2, 16, 32, 32}, Shape{32, 16, 3, 3}, {2, 2}, {0, 1, 0, 1}},
      {Shape{2, 64, 8, 8}, Shape{64, 64, 3, 3}, {1, 1}, {1, 1, 1, 1}},
      {Shape{5, 32, 4, 4}, Shape{16, 32, 1, 1}, {2, 2}},  // blocks of several samples
      {Shape{70, 3, 3, 3}, Shape{2, 3, 3, 3}}};           // one output pixel each
  for (const Case& c : cases) {
    expect_three_passes_match(c, DType::kFloat32, 11);
  }
  expect_three_passes_match(cases[5], DType::kFloat64, 11);
  expect_three_passes_match(cases[6], DType::kFloat64, 11);
}

Case random_case(PhiloxStream& random) {
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return low +
           static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(high - low + 1)));
  };
  Case c;
  c.filter = Shape{pick(1, 20), pick(1, 18), pick(1, 5), pick(1, 5)};
  c.stride = {pick(1, 3), pick(1, 3)};
  c.padding = {pick(0, 3), pick(0, 3), pick(0, 3), pick(0, 3)};
  c.dilation = {pick(1, 3), pick(1, 3)};
  const std::int64_t rows = (c.filter[2] - 1) * c.dilation[0] + 1 - c.padding[0] - c.padding[1];
  const std::int64_t columns = (c.filter[3] - 1) * c.dilation[1] + 1 - c.padding[2] - c.padding[3];
  c.x = Shape{pick(1, 4), c.filter[1], std::max<std::int64_t>(1, rows) + pick(0, 9),
              std::max<std::int64_t>(1, columns) + pick(0, 9)};
  return c;
}

TEST(ConvOps, MatchTheReferenceAtRandomShapesStridesPaddingsAndDilations) {
  PhiloxStream random(2024, stream_id("conv_ops_test"));
  for (std::uint64_t trial = 0; trial < 60; ++trial) {
    const Case c = random_case(random);
    expect_three_passes_match(c, trial % 2 == 0 ? DType::kFloat32 : DType::kFloat64, 100 * trial);
    if (HasFatalFailure() || HasNonfatalFailure()) {
      FAIL() << "trial " << trial << ": x " << c.x.to_string() << " filter "
             << c.filter.to_string();
    }
  }
}

TEST(ConvOps, GiveEmptyOutputsAndZeroFilterGradientsForAnEmptyBatch) {
  const Case c{Shape{0, 3, 8, 8}, Shape{4, 3, 3, 3}};
  const Tensor x = Tensor::zeros(c.x, DType::kFloat32);
  const Tensor filter = random_tensor({DType::kFloat32, c.filter}, 1);
  const Tensor y = kernels::apply("conv2d", std::vector<Tensor>{x, filter}, c.window())[0];
  EXPECT_EQ(y.shape(), (Shape{0, 4, 6, 6}));
  const Tensor dfilter = kernels::apply("conv2d_backward_filter", std::vector<Tensor>{x, y},
                                        c.with("filter_shape", c.filter))[0];
  EXPECT_EQ(dfilter.shape(), c.filter);
  EXPECT_THAT(dfilter.data<float>(), ::testing::Each(0.0F));
  EXPECT_EQ(kernels::apply("conv2d_backward_input", std::vector<Tensor>{y, filter},
                           c.with("input_shape", c.x))[0]
                .shape(),
            c.x);
}

// Sample `position` of the first output when `one` stands there among other samples.
Tensor result_at(kernels::Backend backend, const Case& c, std::int64_t position, const Tensor& one,
                 const Tensor& filter) {
  Tensor x = random_tensor({DType::kFloat32, c.x}, 7);
  const std::int64_t begin = position * one.num_elements();
  std::copy(one.data<float>().begin(), one.data<float>().end(),
            x.mutable_data<float>().begin() + begin);
  const Tensor y = kernels::apply_with(backend, kernels::find_op("conv2d"),
                                       std::vector<Tensor>{x, filter}, c.window())[0];
  const Shape shape{1, y.shape()[1], y.shape()[2], y.shape()[3]};
  const auto size = static_cast<std::size_t>(shape.num_elements());
  return Tensor::from<float>(
      shape, y.data<float>().subspan(static_cast<std::size_t>(position) * size, size));
}

TEST(ConvOps, GiveASampleTheSameBitsAnywhereInTheBatch) {
  const std::vector<Case> cases = {{Shape{4, 5, 9, 9}, Shape{7, 5, 3, 3}, {1, 1}, {1, 1, 1, 1}},
                                   {Shape{6, 1, 28, 28}, Shape{32, 1, 5, 5}, {1, 1}, {2, 2, 2, 2}},
                                   {Shape{5, 16, 8, 8}, Shape{32, 16, 3, 3}, {2, 2}, {0, 1, 0, 1}}};
  for (const Case& c : cases) {
    const Tensor one = random_tensor({DType::kFloat32, Shape{1, c.x[1], c.x[2], c.x[3]}}, 5);
    const Tensor filter = random_tensor({DType::kFloat32, c.filter}, 6);
    for (const kernels::Backend backend :
         backends_of(kernels::find_op("conv2d"), std::vector<Tensor>{one, filter}, c.window())) {
      const Tensor first = result_at(backend, c, 0, one, filter);
      for (std::int64_t position = 1; position < c.x[0]; ++position) {
        EXPECT_TRUE(same_bits(result_at(backend, c, position, one, filter), first))
            << kernels::name_of(backend) << " at " << position << " of " << c.x.to_string();
      }
    }
  }
}

// The Eigen backend works sample by sample, so here the batch does not matter at all.
TEST(ConvOps, OnEigenGiveASampleTheSameBitsAloneAndInABatch) {
  const Case alone{Shape{1, 5, 9, 9}, Shape{7, 5, 3, 3}, {1, 1}, {1, 1, 1, 1}};
  Case batch = alone;
  batch.x = Shape{9, 5, 9, 9};
  const Tensor one = random_tensor({DType::kFloat32, alone.x}, 5);
  const Tensor filter = random_tensor({DType::kFloat32, alone.filter}, 6);
  EXPECT_TRUE(same_bits(result_at(kernels::Backend::kEigen, alone, 0, one, filter),
                        result_at(kernels::Backend::kEigen, batch, 4, one, filter)));
}

// ---- errors ----

TEST(ConvOps, NameOpArgumentAndBothValues) {
  const Shape x{2, 3, 8, 8};
  const Shape filter{4, 3, 3, 3};
  EXPECT_THAT(
      op_error("conv2d", {x, Shape{4, 2, 3, 3}}),
      AllOf(HasSubstr("[conv2d]"), HasSubstr("channels"), HasSubstr("for 2"), HasSubstr(", 3")));
  EXPECT_THAT(op_error("conv2d", {x, Shape{4, 3, 9, 3}}),
              AllOf(HasSubstr("rows"), HasSubstr("got 9"), HasSubstr("= 8")));
  EXPECT_THAT(op_error("conv2d", {x, Shape{4, 3, 0, 3}}),
              AllOf(HasSubstr("kernel size"), HasSubstr("got 0")));
  EXPECT_THAT(op_error("conv2d", {x, filter}, {{"stride", Sizes{0, 1}}}),
              AllOf(HasSubstr("stride"), HasSubstr("(0, 1)")));
  EXPECT_THAT(op_error("conv2d", {x, filter}, {{"padding", Sizes{0, -1, 0, 0}}}),
              AllOf(HasSubstr("padding"), HasSubstr("-1")));
  EXPECT_THAT(op_error("conv2d", {x, filter}, {{"padding", Sizes{1, 1}}}),
              AllOf(HasSubstr("padding"), HasSubstr("expected 4")));
  EXPECT_THAT(op_error("conv2d", {x, filter}, {{"dilation", Sizes{4, 1}}}),
              AllOf(HasSubstr("extent"), HasSubstr("got 9")));
  EXPECT_THAT(op_error("conv2d", {x, filter}, {{"dilation", Sizes{std::int64_t{1} << 62, 1}}}),
              HasSubstr("dilation"));
  EXPECT_THAT(op_error("conv2d", {x, filter}, {{"stride", std::int64_t{2}}}), HasSubstr("stride"));
  EXPECT_THAT(op_error("conv2d", {Shape{3, 8, 8}, filter}),
              AllOf(HasSubstr("input"), HasSubstr("(3, 8, 8)")));
  EXPECT_THAT(op_error("conv2d", {x, Shape{4, 3, 3}}),
              AllOf(HasSubstr("filter"), HasSubstr("(4, 3, 3)")));
}

TEST(ConvOps, RefuseGradientsThatDoNotFit) {
  const Shape filter{4, 3, 3, 3};
  EXPECT_THAT(op_error("conv2d_backward_input", {Shape{2, 4, 6, 6}, filter}),
              AllOf(HasSubstr("input_shape"), HasSubstr("missing")));
  EXPECT_THAT(op_error("conv2d_backward_input", {Shape{2, 4, 5, 6}, filter},
                       {{"input_shape", Sizes{2, 3, 8, 8}}}),
              AllOf(HasSubstr("[conv2d_backward_input]"), HasSubstr("(2, 4, 5, 6)"),
                    HasSubstr("(2, 4, 6, 6)")));
  EXPECT_THAT(op_error("conv2d_backward_filter", {Shape{2, 3, 8, 8}, Shape{1, 4, 6, 6}},
                       {{"filter_shape", Sizes{4, 3, 3, 3}}}),
              AllOf(HasSubstr("grad"), HasSubstr("(1, 4, 6, 6)"), HasSubstr("(2, 4, 6, 6)")));
  EXPECT_THAT(op_error("conv2d_backward_filter", {Shape{2, 3, 8, 8}, Shape{2, 4, 6, 6}},
                       {{"filter_shape", Sizes{4, 3, 3}}}),
              AllOf(HasSubstr("filter_shape"), HasSubstr("expected 4")));
}

}  // namespace
}  // namespace superstep::testing
