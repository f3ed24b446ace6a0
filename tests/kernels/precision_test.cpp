// Products and convolutions in bf16: what is rounded, how far the sums may lie from exact ones, and
// that gradients, programs and slots keep the precision.
#include "kernels/precision.h"

#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/ops.h"
#include "kernels/program.h"
#include "kernels/tape.h"
#include "tests/kernels/heavy_op_checks.h"
#include "tests/support/error_text.h"

namespace superstep::testing {
namespace {

using kernels::Attributes;
using kernels::Backend;
using kernels::DType;
using kernels::Precision;
using kernels::Shape;
using kernels::Tensor;
using kernels::TensorType;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Sizes = std::vector<std::int64_t>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor rounded(const Tensor& x) {
  Tensor result = Tensor::zeros(x.shape(), x.dtype());
  kernels::round_to_bf16(x.data<float>(), result.mutable_data<float>());
  return result;
}

// ---- rounding ----

TEST(Bf16, RoundsToTheNearestWithTiesToEven) {
  const float ulp = std::ldexp(1.0F, -7);  // of numbers in [1, 2)
  EXPECT_EQ(kernels::rounded_to_bf16(1.0F + ulp / 2), 1.0F);
  EXPECT_EQ(kernels::rounded_to_bf16(1.0F + ulp * 1.5F), 1.0F + 2 * ulp);
  EXPECT_EQ(kernels::rounded_to_bf16(std::nextafter(1.0F + ulp / 2, 2.0F)), 1.0F + ulp);
  EXPECT_EQ(kernels::rounded_to_bf16(-1.0F - ulp * 0.75F), -1.0F - ulp);
  EXPECT_EQ(kernels::rounded_to_bf16(std::nextafter(2.0F, 1.0F)), 2.0F);
}

TEST(Bf16, TakesSubnormalsForZeroAndTooLargeNumbersForInfinity) {
  const float subnormal = std::numeric_limits<float>::denorm_min() * 1000;
  EXPECT_EQ(std::bit_cast<std::uint32_t>(kernels::rounded_to_bf16(subnormal)), 0U);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(kernels::rounded_to_bf16(-subnormal)), 0x80000000U);
  EXPECT_EQ(kernels::rounded_to_bf16(std::numeric_limits<float>::min()),
            std::numeric_limits<float>::min());
  EXPECT_EQ(kernels::rounded_to_bf16(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(kernels::rounded_to_bf16(-kInfinity), -kInfinity);
}

TEST(Bf16, KeepsEveryNumberOfItsOwnAndEveryNaN) {
  for (std::uint32_t upper = 0; upper < 0x10000U; ++upper) {
    const float value = std::bit_cast<float>(upper << 16);
    const float found = kernels::rounded_to_bf16(value);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(found)) << upper;
    } else if (std::fpclassify(value) != FP_SUBNORMAL) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(found), upper << 16);
    }
  }
  // A NaN whose payload lies in the half that goes.
  EXPECT_TRUE(std::isnan(kernels::rounded_to_bf16(std::bit_cast<float>(0x7f800001U))));
}

TEST(Bf16, IsNamedInMessages) {
  EXPECT_EQ(kernels::precision_named("bf16"), Precision::kBfloat16);
  EXPECT_EQ(kernels::precision_named("float32"), Precision::kFloat32);
  EXPECT_THAT(error_text<InvalidArgument>([] { kernels::precision_named("fp16"); }),
              HasSubstr("got \"fp16\", expected \"float32\" or \"bf16\""));
  const Tensor a = Tensor::zeros(Shape{2, 2}, DType::kFloat64);
  EXPECT_THAT(error_text<InvalidArgument>(
                  [&] { kernels::matmul(a, a, {.precision = Precision::kBfloat16}); }),
              AllOf(HasSubstr("[matmul]"), HasSubstr("precision"), HasSubstr("float64"),
                    HasSubstr("expected operands of float32")));
}

// ---- ops against the reference ----

struct Call {
  std::string op;
  std::vector<Shape> shapes;
  Attributes attributes;
  double terms = 0.0;  // of one sum
};

std::vector<Call> calls() {
  const Sizes same5 = {2, 2, 2, 2};
  const Sizes same3 = {1, 1, 1, 1};
  std::vector<Call> all;
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      for (const auto& [m, n, k] :
           std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>>{
               {1, 1, 1}, {5, 9, 7}, {64, 10, 201}, {33, 70, 519}}) {
        all.push_back({"matmul",
                       {ta ? Shape{k, m} : Shape{m, k}, tb ? Shape{n, k} : Shape{k, n}},
                       {{"transpose_a", ta}, {"transpose_b", tb}},
                       static_cast<double>(k)});
      }
    }
  }
  // The convolutions of our models: a network's first, wide ones, strides.
  const auto convolution = [&](const Shape& x, const Shape& filter, const Shape& y,
                               const Attributes& window) {
    const auto sizes = [](const Shape& shape) {
      return Sizes(shape.sizes().begin(), shape.sizes().end());
    };
    const std::int64_t patch = filter.num_elements() / filter[0];
    const std::int64_t inputs = filter.num_elements() / filter[1];
    const std::int64_t places = y.num_elements() / y[1];
    all.push_back({"conv2d", {x, filter}, window, static_cast<double>(patch)});
    all.push_back({"conv2d_backward_input",
                   {y, filter},
                   Attributes(window).with("input_shape", sizes(x)),
                   static_cast<double>(inputs)});
    all.push_back({"conv2d_backward_filter",
                   {x, y},
                   Attributes(window).with("filter_shape", sizes(filter)),
                   static_cast<double>(places)});
  };
  convolution({3, 1, 12, 12}, {32, 1, 5, 5}, {3, 32, 12, 12}, {{"padding", same5}});
  convolution({2, 32, 7, 7}, {64, 32, 5, 5}, {2, 64, 7, 7}, {{"padding", same5}});
  convolution({2, 16, 8, 8}, {32, 16, 3, 3}, {2, 32, 4, 4},
              {{"padding", Sizes{1, 0, 1, 0}}, {"stride", Sizes{2, 2}}});
  convolution({2, 3, 6, 5}, {4, 3, 3, 3}, {2, 4, 6, 5}, {{"padding", same3}});
  return all;
}

std::vector<Tensor> operands_of(const Call& call) {
  std::vector<Tensor> operands;
  for (const Shape& shape : call.shapes) {
    operands.push_back(random_tensor({DType::kFloat32, shape}, operands.size() + 1));
  }
  return operands;
}

// Products of bf16 numbers are exact in float32, so only the additions round: the same bound as for
// float32, around the sums of the rounded operands. Other operands would lie 2^-9 away in each
// factor, far outside.
TEST(Bf16, OpsAddUpTheProductsOfRoundedOperandsOnEveryBackend) {
  for (const Call& call : calls()) {
    const kernels::OpInfo& op = kernels::find_op(call.op);
    const Attributes attributes = with_precision(call.attributes, Precision::kBfloat16);
    const std::vector<Tensor> operands = operands_of(call);
    const std::vector<Tensor> exact_operands = {rounded(operands[0]), rounded(operands[1])};
    const ReferenceTensor want =
        heavy_reference(call.op)(to_reference(exact_operands), call.attributes)[0];
    const double tolerance = rounding_of_sum(DType::kFloat32, call.terms);
    const std::vector<Backend> backends = backends_of(op, operands, attributes);
    ASSERT_FALSE(backends.empty());
    for (const Backend backend : backends) {
      const Tensor got = kernels::apply_with(backend, op, operands, attributes)[0];
      EXPECT_LE(largest_difference(got, want), tolerance)
          << call.op << " on " << kernels::name_of(backend) << ", "
          << kernels::to_string(kernels::types_of(operands)) << " " << attributes.to_string();
    }
  }
}

// What rounds and multiplies in float32 against what serves the call first.
TEST(Bf16, OpsAgreeWithTheirFallbackUpToTheOrderOfAdditions) {
  int compared = 0;
  for (const Call& call : calls()) {
    const kernels::OpInfo& op = kernels::find_op(call.op);
    const Attributes attributes = with_precision(call.attributes, Precision::kBfloat16);
    const std::vector<Tensor> operands = operands_of(call);
    const Tensor first = kernels::apply(op, operands, attributes)[0];
    const Tensor fallback = kernels::apply_with(Backend::kEigen, op, operands, attributes)[0];
    EXPECT_LE(largest_difference(first, to_reference(std::vector<Tensor>{fallback})[0]),
              2 * rounding_of_sum(DType::kFloat32, call.terms))
        << call.op << " " << attributes.to_string();
    // The fallback is the float32 kernel on rounded operands, to the last bit.
    const std::vector<Tensor> exact_operands = {rounded(operands[0]), rounded(operands[1])};
    EXPECT_TRUE(same_bits(
        fallback, kernels::apply_with(Backend::kEigen, op, exact_operands, call.attributes)[0]));
    ++compared;
  }
  EXPECT_EQ(compared, 28);
}

TEST(Bf16, ChangesWhatOpsCompute) {
  for (const Call& call : calls()) {
    const std::vector<Tensor> operands = operands_of(call);
    const ReferenceTensor exact =
        heavy_reference(call.op)(to_reference(operands), call.attributes)[0];
    const Tensor found =
        kernels::apply(call.op, operands, with_precision(call.attributes, Precision::kBfloat16))[0];
    EXPECT_GT(largest_difference(found, exact), rounding_of_sum(DType::kFloat32, call.terms))
        << call.op;
  }
}

// The instructions take a product below the smallest normal number for zero, float32 does not: that
// tells which of the two multiplied.
TEST(Bf16, MultipliesWithTheProcessorsInstructionsWhereThereAreAny) {
  const auto tiny = [](const Shape& shape) {
    return Tensor::full(shape, DType::kFloat32, std::ldexp(1.0, -70));
  };
  const bool expect_zero = kernels::has_bf16_instructions();
  const Tensor product =
      kernels::matmul(tiny({8, 40}), tiny({40, 16}), {.precision = Precision::kBfloat16});
  EXPECT_THAT(product.data<float>(),
              ::testing::Each(expect_zero ? 0.0F : 40 * std::ldexp(1.0F, -140)));
  const std::vector<Tensor> operands = {tiny({2, 32, 7, 7}), tiny({64, 32, 5, 5})};
  const Attributes attributes = {{"padding", Sizes{2, 2, 2, 2}}, {"precision", "bf16"}};
  const kernels::OpInfo& op = kernels::find_op("conv2d");
  for (const Backend backend : backends_of(op, operands, attributes)) {
    const Tensor images = kernels::apply_with(backend, op, operands, attributes)[0];
    if (expect_zero && backend == Backend::kOneDnn) {
      EXPECT_THAT(images.data<float>(), ::testing::Each(0.0F));
    } else {
      EXPECT_THAT(images.data<float>(), ::testing::Each(::testing::Gt(0.0F)));
    }
  }
}

TEST(Bf16, LetsInfinitiesAndNansThrough) {
  Tensor a = random_tensor({DType::kFloat32, Shape{3, 40}}, 1);
  const Tensor b = Tensor::full(Shape{40, 17}, DType::kFloat32, 1.0);
  a.mutable_data<float>()[5] = kInfinity;
  a.mutable_data<float>()[40 + 39] = std::numeric_limits<float>::quiet_NaN();
  const Tensor product = kernels::matmul(a, b, {.precision = Precision::kBfloat16});
  const std::span<const float> found = product.data<float>();
  for (std::size_t column = 0; column < 17; ++column) {
    EXPECT_EQ(found[column], kInfinity);
    EXPECT_TRUE(std::isnan(found[17 + column]));
    EXPECT_TRUE(std::isfinite(found[34 + column]));
  }
}

TEST(Bf16, MultipliesEmptyBatches) {
  const Tensor none = Tensor::zeros(Shape{0, 4}, DType::kFloat32);
  const Tensor weights = Tensor::full(Shape{4, 3}, DType::kFloat32, 1.0);
  const kernels::MatmulOptions bf16{.precision = Precision::kBfloat16};
  EXPECT_EQ(kernels::matmul(none, weights, bf16).shape(), (Shape{0, 3}));
  const Tensor sums = kernels::matmul(none, Tensor::zeros(Shape{0, 3}, DType::kFloat32),
                                      {.transpose_a = true, .precision = Precision::kBfloat16});
  EXPECT_THAT(sums.data<float>(), ::testing::Each(0.0F));
  EXPECT_EQ(sums.shape(), (Shape{4, 3}));
}

// ---- gradients, programs, slots ----

TEST(Bf16, IsThePrecisionOfGradientsToo) {
  const Tensor x = random_tensor({DType::kFloat32, Shape{6, 20}}, 1);
  const Tensor w = random_tensor({DType::kFloat32, Shape{20, 9}}, 2);
  const Tensor seed = random_tensor({DType::kFloat32, Shape{6, 9}}, 3);
  kernels::Tape tape;
  const Tensor watched_x = tape.watch(x);
  const Tensor watched_w = tape.watch(w);
  const Tensor y = kernels::matmul(watched_x, watched_w, {.precision = Precision::kBfloat16});
  const std::vector<Tensor> sources = {watched_x, watched_w};
  const std::vector<Tensor> gradients = tape.gradient(y, seed, sources);
  EXPECT_TRUE(same_bits(
      gradients[0],
      kernels::matmul(seed, w, {.transpose_b = true, .precision = Precision::kBfloat16})));
  EXPECT_TRUE(same_bits(
      gradients[1],
      kernels::matmul(x, seed, {.transpose_a = true, .precision = Precision::kBfloat16})));
}

// A convolution, its bias and both gradients, with images in channel blocks inside the program.
std::vector<Tensor> convolution_step(std::span<const Tensor> inputs) {
  kernels::Tape tape;
  const Tensor first = tape.watch(inputs[1]);
  const Tensor second = tape.watch(inputs[2]);
  const kernels::Conv2dOptions options{.padding = {1, 1, 1, 1}, .precision = Precision::kBfloat16};
  const Tensor hidden = kernels::relu(kernels::conv2d(inputs[0], first, options));
  const Tensor y = kernels::conv2d(hidden, second, options);
  std::vector<Tensor> outputs = tape.gradient(kernels::square(y), {first, second});
  outputs.push_back(y);
  return outputs;
}

TEST(Bf16, HasTheSameBitsInARecordedProgram) {
  const std::vector<Tensor> inputs = {random_tensor({DType::kFloat32, Shape{4, 1, 8, 8}}, 1),
                                      random_tensor({DType::kFloat32, Shape{16, 1, 3, 3}}, 2),
                                      random_tensor({DType::kFloat32, Shape{32, 16, 3, 3}}, 3)};
  const std::vector<Tensor> eager = convolution_step(inputs);
  kernels::Program program = kernels::Program::record(kernels::types_of(inputs), &convolution_step);
  EXPECT_THAT(program.to_string(), HasSubstr("precision=\"bf16\""));
  std::vector<Tensor> outputs;
  for (const TensorType& type : program.output_types()) {
    outputs.push_back(Tensor::zeros(type.shape, type.dtype));
  }
  for (int repetition = 0; repetition < 2; ++repetition) {
    program.run(inputs, outputs);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      EXPECT_TRUE(same_bits(outputs[i], eager[i])) << i;
    }
  }
}

// Rows (n, 48), a matrix; the product and the sum over the rows that is the matrix's gradient.
std::vector<Tensor> product_step(std::span<const Tensor> inputs) {
  const Tensor y = kernels::matmul(inputs[0], inputs[1], {.precision = Precision::kBfloat16});
  return {y,
          kernels::matmul(inputs[0], y, {.transpose_a = true, .precision = Precision::kBfloat16})};
}

TEST(Bf16, KeepsTheBitsOfSlotsInOnePass) {
  constexpr int kSlots = 3;
  const std::vector<TensorType> types = {{DType::kFloat32, Shape{8, 48}},
                                         {DType::kFloat32, Shape{48, 80}}};
  const kernels::SlotPlan plan{
      .batched_inputs = {true, false}, .num_row_outputs = 1, .folds = {0, 1, 1}};
  std::optional<kernels::Program> joined =
      kernels::Program::record_slots(types, &product_step, plan);
  ASSERT_TRUE(joined.has_value());
  if (kernels::has_bf16_instructions()) {
    // Elsewhere a product of this size runs in a kernel whose bits do not allow it.
    EXPECT_THAT(joined->to_string(), HasSubstr("matmul_over_slots"));
    EXPECT_EQ(joined->num_ops(), 2);
  }
  const Tensor rows = random_tensor({DType::kFloat32, Shape{8 * kSlots, 48}}, 1);
  const Tensor matrix = random_tensor({DType::kFloat32, Shape{48, 80}}, 2);
  std::vector<Tensor> outputs = {Tensor::zeros(Shape{8 * kSlots, 80}, DType::kFloat32),
                                 Tensor::zeros(Shape{48, 80}, DType::kFloat32)};
  joined->run(std::vector<Tensor>{rows, matrix}, outputs);

  Tensor sum;
  for (int slot = 0; slot < kSlots; ++slot) {
    const Tensor own = kernels::slice(rows, {8 * slot, 0}, {8, 48});
    const std::vector<Tensor> one = product_step(std::vector<Tensor>{own, matrix});
    EXPECT_TRUE(same_bits(one[0], kernels::slice(outputs[0], {8 * slot, 0}, {8, 80}))) << slot;
    sum = slot == 0 ? one[1] : kernels::add(sum, one[1]);
  }
  EXPECT_TRUE(same_bits(outputs[1], sum));
}

}  // namespace
}  // namespace superstep::testing
