#include "kernels/tape.h"

#include <cmath>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "tests/support/error_text.h"

namespace superstep::kernels {
namespace {

using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

Tensor float64_vector(const std::vector<double>& values) {
  return Tensor::from<double>({static_cast<std::int64_t>(values.size())}, values);
}

Tensor number(double value) {
  return Tensor::scalar(value);
}

std::vector<double> values_of(const Tensor& tensor) {
  const std::span<const double> data = tensor.data<double>();
  return {data.begin(), data.end()};
}

TEST(Tape, GivesTheGradientOfAComposition) {
  Tape tape;
  const Tensor x = tape.watch(float64_vector({1.0, 2.0, 3.0}));
  const Tensor y = sum(mul(square(x), x));
  EXPECT_THAT(values_of(tape.gradient(y, {x})[0]), ElementsAre(3.0, 12.0, 27.0));
}

TEST(Tape, RecordsNothingForTensorsItDoesNotWatch) {
  Tape tape;
  const Tensor x = float64_vector({1.0, 2.0});
  const Tensor watched = tape.watch(x);
  EXPECT_EQ(x.links(), nullptr);
  EXPECT_TRUE(watched.shares_storage_with(x));
  EXPECT_EQ(square(x).links(), nullptr);
  EXPECT_NE(square(watched).links(), nullptr);
}

TEST(Tape, SeedsTheTargetWithOnesOrWithTheGivenTensor) {
  Tape tape(Persistence::kPersistent);
  const Tensor x = tape.watch(float64_vector({1.0, 2.0}));
  const Tensor y = square(x);
  EXPECT_THAT(values_of(tape.gradient(y, {x})[0]), ElementsAre(2.0, 4.0));
  const std::vector<Tensor> sources = {x};
  EXPECT_THAT(values_of(tape.gradient(y, float64_vector({10.0, 100.0}), sources)[0]),
              ElementsAre(20.0, 400.0));
}

TEST(Tape, RefusesASeedOfAnotherShape) {
  Tape tape;
  const Tensor x = tape.watch(float64_vector({1.0, 2.0}));
  const std::vector<Tensor> sources = {x};
  EXPECT_THAT(
      error_text<InvalidArgument>([&] { tape.gradient(square(x), number(1.0), sources); }),
      HasSubstr("[Tape::gradient] seed: got float64 (), expected the target's type float64 (2)"));
}

TEST(Tape, AddsTheContributionsOfSeveralUses) {
  Tape tape;
  const Tensor x = tape.watch(number(3.0));
  const Tensor y = add(mul(x, x), add(x, exp(scale(x, 0.0))));
  EXPECT_DOUBLE_EQ(tape.gradient(y, {x})[0].item<double>(), 7.0);
}

// 1 is lost beside 1e16 when added to it first: the order shows in the sum.
TEST(Tape, AddsTheLatestRecordedUseFirst) {
  Tape tape;
  const Tensor x = tape.watch(number(1.0));
  const Tensor first = scale(x, 1.0);
  const Tensor second = scale(x, -1e16);
  const Tensor third = scale(x, 1e16);
  const Tensor y = add(first, add(second, third));
  EXPECT_EQ(tape.gradient(y, {x})[0].item<double>(), (1e16 + -1e16) + 1.0);
}

TEST(Tape, LeavesUnconnectedGradientsUndefinedOrZero) {
  Tape tape(Persistence::kPersistent);
  const Tensor x = tape.watch(float64_vector({1.0, 2.0}));
  const Tensor other = tape.watch(float64_vector({5.0, 6.0, 7.0}));
  const Tensor unwatched = float64_vector({1.0});
  const Tensor y = sum(square(x));
  const std::vector<Tensor> none = tape.gradient(y, {other, unwatched, x});
  EXPECT_FALSE(none[0].defined());
  EXPECT_FALSE(none[1].defined());
  EXPECT_TRUE(none[2].defined());
  const std::vector<Tensor> zero = tape.gradient(y, {other, unwatched, x}, Unconnected::kZero);
  EXPECT_THAT(values_of(zero[0]), ElementsAre(0.0, 0.0, 0.0));
  EXPECT_THAT(values_of(zero[1]), ElementsAre(0.0));
}

TEST(Tape, DifferentiatesByIntermediateTensorsToo) {
  Tape tape;
  const Tensor x = tape.watch(number(2.0));
  const Tensor middle = square(x);
  const Tensor y = square(middle);
  const std::vector<Tensor> gradients = tape.gradient(y, {middle, x, y});
  EXPECT_DOUBLE_EQ(gradients[0].item<double>(), 8.0);
  EXPECT_DOUBLE_EQ(gradients[1].item<double>(), 32.0);
  EXPECT_DOUBLE_EQ(gradients[2].item<double>(), 1.0);
}

TEST(Tape, WatchingTwiceKeepsTheLink) {
  Tape tape;
  const Tensor x = tape.watch(number(2.0));
  const Tensor y = square(x);
  const Tensor again = tape.watch(y);
  EXPECT_DOUBLE_EQ(tape.gradient(square(again), {x})[0].item<double>(), 32.0);
}

TEST(Tape, WatchesFloatingTensorsOnly) {
  Tape tape;
  EXPECT_THAT(error_text<InvalidArgument>([&] { tape.watch(Tensor::zeros({2}, DType::kInt64)); }),
              HasSubstr("[Tape::watch] tensor: got int64, expected float32 or float64"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { tape.watch(Tensor()); }),
              HasSubstr("got an undefined one"));
}

TEST(Tape, IsUsedUpByOneGradientUnlessPersistent) {
  Tape once;
  const Tensor x = once.watch(number(2.0));
  const Tensor y = square(x);
  once.gradient(y, {x});
  EXPECT_THAT(error_text<InvalidArgument>([&] { once.gradient(y, {x}); }),
              HasSubstr("tape is used up: got a second call, expected one"));

  Tape persistent(Persistence::kPersistent);
  const Tensor u = persistent.watch(number(2.0));
  const Tensor v = square(u);
  EXPECT_DOUBLE_EQ(persistent.gradient(v, {u})[0].item<double>(), 4.0);
  EXPECT_DOUBLE_EQ(persistent.gradient(v, {u})[0].item<double>(), 4.0);
  EXPECT_DOUBLE_EQ(persistent.gradient(square(v), {u})[0].item<double>(), 32.0);
}

TEST(Tape, DifferentiatesItsOwnGradientWhenPersistent) {
  Tape tape(Persistence::kPersistent);
  const Tensor x = tape.watch(number(3.0));
  const Tensor first = tape.gradient(mul(square(x), x), {x})[0];
  EXPECT_DOUBLE_EQ(first.item<double>(), 27.0);
  EXPECT_DOUBLE_EQ(tape.gradient(first, {x})[0].item<double>(), 18.0);
}

TEST(Tape, NestsSoThatTheOuterTapeDifferentiatesTheInnerGradient) {
  Tape outer;
  const Tensor x = outer.watch(number(3.0));
  Tensor first;
  {
    Tape inner;
    const Tensor both = inner.watch(x);
    first = inner.gradient(mul(square(both), both), {both})[0];
  }
  EXPECT_DOUBLE_EQ(first.item<double>(), 27.0);
  EXPECT_DOUBLE_EQ(outer.gradient(first, {x})[0].item<double>(), 18.0);
}

TEST(Tape, NestsThreeDeep) {
  Tape a;
  Tape b;
  Tape c;
  const Tensor x = c.watch(b.watch(a.watch(number(2.0))));
  const Tensor y = square(square(x));                                 // x^4
  const Tensor first = c.gradient(y, {x})[0];                         // 4 x^3
  const Tensor second = b.gradient(first, {x})[0];                    // 12 x^2
  EXPECT_DOUBLE_EQ(a.gradient(second, {x})[0].item<double>(), 48.0);  // 24 x
}

TEST(Tape, NamesTheOpThatIsNotDifferentiable) {
  Tape tape;
  const Tensor x = tape.watch(float64_vector({1.0, -1.0}));
  const Tensor y = sum(greater_than_zero(x));
  EXPECT_THAT(
      error_text<InvalidArgument>([&] { tape.gradient(y, {x}); }),
      HasSubstr("op greater_than_zero is not differentiable: a step has no useful derivative"));
}

TEST(Tape, AcceptsAnOpWithoutGradientOffThePath) {
  Tape tape;
  const Tensor x = tape.watch(float64_vector({1.0, -1.0}));
  const Tensor mask = greater_than_zero(stop_gradient(x));
  EXPECT_THAT(values_of(tape.gradient(sum(mul(x, mask)), {x})[0]), ElementsAre(1.0, 0.0));
}

TEST(Tape, LinkedTensorsMayOutliveIt) {
  std::optional<Tape> tape(std::in_place);
  const Tensor x = tape->watch(number(2.0));
  tape.reset();
  EXPECT_DOUBLE_EQ(square(x).item<double>(), 4.0);
  EXPECT_EQ(square(x).links(), nullptr);
}

TEST(Tape, RefusesATargetWithoutDerivative) {
  Tape tape;
  const Tensor x = tape.watch(number(2.0));
  EXPECT_THAT(error_text<InvalidArgument>([&] { tape.gradient(Tensor(), {x}); }),
              HasSubstr("got an undefined tensor"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { tape.gradient(cast(x, DType::kInt32), {x}); }),
              HasSubstr("got int32"));
}

TEST(StopGradient, KeepsValuesAndStopsTheFlowOnEveryTape) {
  Tape outer;
  Tape inner;
  const Tensor x = inner.watch(outer.watch(number(3.0)));
  const Tensor y = mul(x, stop_gradient(square(x)));
  EXPECT_DOUBLE_EQ(y.item<double>(), 27.0);
  EXPECT_DOUBLE_EQ(inner.gradient(y, {x})[0].item<double>(), 9.0);
  EXPECT_DOUBLE_EQ(outer.gradient(y, {x})[0].item<double>(), 9.0);
}

std::vector<Tensor> log1p_exp(const Tensor& x) {
  return custom_gradient(
      {&x, 1},
      [](std::span<const Tensor> inputs) {
        return std::vector<Tensor>{log(add(number(1.0), exp(inputs[0])))};
      },
      [](std::span<const Tensor> inputs, std::span<const Tensor>, std::span<const Tensor> dy) {
        return std::vector<Tensor>{mul(dy[0], sigmoid(inputs[0]))};
      });
}

TEST(CustomGradient, ReplacesTheGradientOfItsOps) {
  Tape tape;
  const Tensor x = tape.watch(number(1000.0));  // exp overflows: the plain gradient would be NaN
  EXPECT_DOUBLE_EQ(tape.gradient(log1p_exp(x)[0], {x})[0].item<double>(), 1.0);
}

TEST(CustomGradient, IsDifferentiatedAgainByAnOuterTape) {
  Tape outer;
  const Tensor x = outer.watch(number(0.5));
  Tape inner;
  const Tensor both = inner.watch(x);
  const Tensor first = inner.gradient(log1p_exp(both)[0], {both})[0];
  const double s = 1.0 / (1.0 + std::exp(-0.5));
  EXPECT_NEAR(first.item<double>(), s, 1e-15);
  EXPECT_NEAR(outer.gradient(first, {x})[0].item<double>(), s * (1.0 - s), 1e-15);
}

TEST(CustomGradient, MayReturnItsInputAndReverseTheGradient) {
  Tape tape;
  const Tensor x = tape.watch(number(3.0));
  const std::vector<Tensor> y = custom_gradient(
      {&x, 1}, [](std::span<const Tensor> inputs) { return std::vector<Tensor>{inputs[0]}; },
      [](std::span<const Tensor>, std::span<const Tensor>, std::span<const Tensor> dy) {
        return std::vector<Tensor>{neg(dy[0])};
      });
  EXPECT_TRUE(y[0].shares_storage_with(x));
  EXPECT_DOUBLE_EQ(tape.gradient(square(y[0]), {x})[0].item<double>(), -6.0);
}

TEST(CustomGradient, GivesZerosForOutputsNothingFlowsInto) {
  Tape tape;
  const Tensor x = tape.watch(number(3.0));
  const std::vector<Tensor> y = custom_gradient(
      {&x, 1},
      [](std::span<const Tensor> inputs) {
        return std::vector<Tensor>{square(inputs[0]), neg(inputs[0])};
      },
      [](std::span<const Tensor> inputs, std::span<const Tensor>, std::span<const Tensor> dy) {
        return std::vector<Tensor>{add(mul(dy[0], inputs[0]), scale(dy[1], 100.0))};
      });
  EXPECT_DOUBLE_EQ(tape.gradient(y[0], {x})[0].item<double>(), 3.0);
}

TEST(CustomGradient, LetsNoGradientFlowToWhatItCaptures) {
  Tape tape;
  const Tensor x = tape.watch(number(3.0));
  const Tensor captured = tape.watch(number(5.0));
  const std::vector<Tensor> y = custom_gradient(
      {&x, 1},
      [&](std::span<const Tensor> inputs) { return std::vector<Tensor>{mul(inputs[0], captured)}; },
      [&](std::span<const Tensor>, std::span<const Tensor>, std::span<const Tensor> dy) {
        return std::vector<Tensor>{mul(dy[0], captured)};
      });
  const std::vector<Tensor> gradients = tape.gradient(y[0], {x, captured});
  EXPECT_DOUBLE_EQ(gradients[0].item<double>(), 5.0);
  EXPECT_FALSE(gradients[1].defined());
}

TEST(CustomGradient, ChecksNumberAndTypeOfItsGradients) {
  const auto with_backward = [](std::vector<Tensor> gradients) {
    Tape tape;
    const Tensor x = tape.watch(number(3.0));
    const std::vector<Tensor> y = custom_gradient(
        {&x, 1},
        [](std::span<const Tensor> inputs) { return std::vector<Tensor>{square(inputs[0])}; },
        [&](std::span<const Tensor>, std::span<const Tensor>, std::span<const Tensor>) {
          return gradients;
        });
    tape.gradient(y[0], {x});
  };
  EXPECT_THAT(error_text<InvalidArgument>([&] { with_backward({}); }),
              HasSubstr("[custom_gradient] number of gradients: got 0"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                with_backward({float64_vector({1.0, 2.0})});
              }),
              HasSubstr("gradient of input 0: got float64 (2), expected float64 ()"));
}

}  // namespace
}  // namespace superstep::kernels
