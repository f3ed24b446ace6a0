// What the table-driven tests cannot know of the light ops: errors, special values, order of
// summation, independence of the place in the batch.
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "tests/support/error_text.h"
#include "tests/support/reference_heavy_ops.h"

namespace superstep::kernels {
namespace {

using DType::kFloat32;
using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::same_bits;

Tensor float32_vector(const std::vector<float>& values) {
  return Tensor::from<float>({static_cast<std::int64_t>(values.size())}, values);
}

Tensor ids_of(const std::vector<std::int64_t>& values) {
  return Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

// ---- errors ----

TEST(LightOps, NameTheArgumentThatDoesNotFit) {
  const Tensor x = Tensor::zeros({2, 3}, kFloat32);
  const Tensor wide = Tensor::zeros({2, 3}, DType::kFloat64);
  EXPECT_THAT(error_text<InvalidArgument>([&] { add(x, Tensor::zeros({2}, kFloat32)); }),
              HasSubstr("[add] shapes do not broadcast: got (2, 3) and (2)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { mul(x, wide); }),
              HasSubstr("[mul] argument b: got float64, expected float32"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { sum(x, {.axes = {2}}); }),
              HasSubstr("[sum] argument axes: got axis 2, expected an axis from -2 to 1"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                sum(x, {.axes = {0, -2}});
              }),
              HasSubstr("expected each axis once"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { mean(Tensor::zeros({0}, kFloat32)); }),
              HasSubstr("[mean] argument x: got shape (0)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                broadcast_to(x, {3, 3});
              }),
              HasSubstr("[broadcast_to] shapes do not broadcast"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { broadcast_to(x, {3}); }),
              HasSubstr("expected a shape that broadcasts to (3)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                apply1("relu_backward", {x, Tensor::zeros({3}, kFloat32)});
              }),
              HasSubstr("[relu_backward] argument y: got shape (3), expected shape (2, 3)"));
}

TEST(LightOps, NameTheShapeThatDoesNotFit) {
  const Tensor x = Tensor::zeros({2, 3}, kFloat32);
  EXPECT_THAT(
      error_text<InvalidArgument>([&] { reshape(x, {4}); }),
      HasSubstr(
          "[reshape] argument x: got shape (2, 3) of 6 elements, expected 4 elements as in (4)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                transpose(x, {0, 0});
              }),
              HasSubstr("[transpose] argument permutation: got [0, 0]"));
  const std::vector<Tensor> parts = {x, Tensor::zeros({2, 2}, kFloat32)};
  EXPECT_THAT(error_text<InvalidArgument>([&] { concat(parts, 0); }),
              HasSubstr("[concat] argument parts[1]: got shape (2, 2)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { concat({}, 0); }),
              HasSubstr("[concat] argument parts: got no inputs"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                slice(x, {1, 0}, {2, 3});
              }),
              HasSubstr("got begin 1 and size 2 on axis 0, expected a range within shape (2, 3)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { slice(x, {1}, {1}); }),
              HasSubstr("[slice] argument begin: got [1], expected 2 values"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                pad(x, {.before = {-1, 0}, .after = {0, 0}});
              }),
              HasSubstr("[pad] argument before: got [-1, 0]"));
}

TEST(LightOps, NameTheBlockThatDoesNotFit) {
  const Tensor x = Tensor::zeros({3, 1, 4, 5}, kFloat32);
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                space_to_batch(x, {.block = {2, 2}});
              }),
              HasSubstr("got 4 x 5 pixels with padding, expected multiples of the block 2 x 2"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                space_to_batch(x, {.block = {0, 1}});
              }),
              HasSubstr("[space_to_batch] argument block: got [0, 1]"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                batch_to_space(x, {.block = {2, 1}});
              }),
              HasSubstr("got 3 samples, expected a multiple of the block's 2 phases"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                batch_to_space(x, {.padding = {3, 2, 0, 0}});
              }),
              HasSubstr("[batch_to_space] argument padding"));
}

TEST(LightOps, RefuseLabelsIdsAndRatesOutOfRange) {
  const Tensor logits = Tensor::zeros({2, 3}, kFloat32);
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                cross_entropy(logits, ids_of({0, 3}));
              }),
              HasSubstr("[cross_entropy] label of sample 1 of the batch: got 3, expected 0 to 2"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                cross_entropy(logits, ids_of({-1, 0}));
              }),
              HasSubstr("got -1"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { cross_entropy(logits, ids_of({0})); }),
              HasSubstr("argument labels: got shape (1), expected shape (2)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                cross_entropy(Tensor::zeros({2, 0}, kFloat32), ids_of({0, 0}));
              }),
              HasSubstr("expected at least one class"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                embedding_lookup(logits, ids_of({0, 2}));
              }),
              HasSubstr("[embedding_lookup] id at position 1: got 2, expected 0 to 1"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                dropout(logits, ids_of({0, 1}), ids_of({1, 1}), {.rate = 1.0});
              }),
              HasSubstr("[dropout] argument rate: got 1, expected at least 0 and less than 1"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                dropout(logits, ids_of({0}), ids_of({1, 1}), {});
              }),
              HasSubstr("argument sample_ids"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                dropout(logits, ids_of({0, 1}), ids_of({1}), {});
              }),
              HasSubstr("argument key"));
}

// ---- values ----

TEST(LightOps, ReluKeepsNan) {
  const Tensor y = relu(float32_vector({-1.0F, 2.0F, std::numeric_limits<float>::quiet_NaN()}));
  EXPECT_EQ(y.data<float>()[0], 0.0F);
  EXPECT_EQ(y.data<float>()[1], 2.0F);
  EXPECT_TRUE(std::isnan(y.data<float>()[2]));
}

TEST(LightOps, SoftmaxAndCrossEntropyStandLargeLogits) {
  const Tensor logits = Tensor::from<float>({1, 3}, std::vector<float>{1e4F, 0.0F, -1e4F});
  EXPECT_THAT(softmax(logits).data<float>(), ElementsAre(1.0F, 0.0F, 0.0F));
  EXPECT_THAT(log_softmax(logits).data<float>(), ElementsAre(0.0F, -1e4F, -2e4F));
  EXPECT_FLOAT_EQ(cross_entropy(logits, ids_of({2})).data<float>()[0], 2e4F);
}

TEST(LightOps, CrossEntropyOfEqualLogitsIsTheLogarithmOfTheClasses) {
  const Tensor loss = cross_entropy(Tensor::zeros({2, 10}, kFloat32), ids_of({0, 9}));
  EXPECT_FLOAT_EQ(loss.data<float>()[0], static_cast<float>(std::log(10.0)));
  EXPECT_FLOAT_EQ(loss.data<float>()[1], static_cast<float>(std::log(10.0)));
}

TEST(LightOps, SumInDoubleDoesNotLoseSmallTerms) {
  const std::int64_t n = 1 << 20;
  Tensor x = Tensor::full({n}, kFloat32, 0.1);
  EXPECT_EQ(sum(x).item<float>(),
            static_cast<float>(static_cast<double>(0.1F) * static_cast<double>(n)));
}

// Terms of very different sizes make every order of additions show in the result.
TEST(LightOps, SumHasTheStatedOrder) {
  const std::int64_t n = 53;
  Tensor x = random_tensor({DType::kFloat64, {n}}, 3);
  for (std::int64_t i = 0; i < n; ++i) {
    x.mutable_data<double>()[static_cast<std::size_t>(i)] *=
        std::pow(10.0, static_cast<double>(i % 17));
  }
  std::vector<double> sums(16, 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    sums[static_cast<std::size_t>(i % 16)] += x.data<double>()[static_cast<std::size_t>(i)];
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) {
      sums[i] += sums[i + half];
    }
  }
  EXPECT_EQ(sum(x).item<double>(), sums[0]);

  double column = 0.0;
  for (const double value : x.data<double>()) {
    column += value;
  }
  const Tensor columns = broadcast_to(reshape(x, {n, 1}), {n, 2});
  EXPECT_THAT(sum(columns, {.axes = {0}}).data<double>(), ElementsAre(column, column));
}

TEST(LightOps, ScaleMultipliesByAConstantOfTheSameDtype) {
  EXPECT_THAT(scale(float32_vector({1.0F, 2.0F}), 0.5).data<float>(), ElementsAre(0.5F, 1.0F));
}

TEST(LightOps, FlattenIsAView) {
  const Tensor x = Tensor::zeros({2, 3, 4}, kFloat32);
  EXPECT_EQ(flatten(x).shape(), (Shape{2, 12}));
  EXPECT_TRUE(flatten(x).shares_storage_with(x));
  EXPECT_EQ(flatten(Tensor::zeros({0, 3, 4}, kFloat32)).shape(), (Shape{0, 12}));
}

TEST(LightOps, BatchToSpaceUndoesSpaceToBatch) {
  const Tensor x = random_tensor({kFloat32, {2, 3, 5, 7}}, 9);
  const SpaceToBatchOptions options{.block = {2, 3}, .padding = {1, 0, 2, 0}};
  EXPECT_TRUE(same_bits(batch_to_space(space_to_batch(x, options), options), x));
}

// ---- the place in the batch does not matter ----

Tensor rows(const Tensor& x, std::int64_t begin, std::int64_t count) {
  std::vector<std::int64_t> first(static_cast<std::size_t>(x.shape().rank()), 0);
  std::vector<std::int64_t> size(x.shape().sizes().begin(), x.shape().sizes().end());
  first[0] = begin;
  size[0] = count;
  return slice(x, first, size);
}

template <typename Function>
void expect_same_bits_of_every_slice(Function&& function) {
  const std::int64_t samples = 19;
  const Tensor x = random_tensor({kFloat32, {samples, 13}}, 21, -4.0, 4.0);
  const Tensor labels = random_tensor({DType::kInt64, {samples}}, 22, 0.0, 13.0);
  const Tensor whole = function(x, labels);
  for (std::int64_t begin = 0; begin < samples; ++begin) {
    for (const std::int64_t count : {std::int64_t{1}, std::int64_t{5}, samples - begin}) {
      if (begin + count <= samples) {
        const Tensor part = function(rows(x, begin, count), rows(labels, begin, count));
        ASSERT_TRUE(same_bits(part, rows(whole, begin, count))) << begin << " + " << count;
      }
    }
  }
}

TEST(LightOps, GiveASampleTheSameBitsWhereverItStandsInTheBatch) {
  using Unary = Tensor (*)(const Tensor&);
  for (const Unary op : {Unary(exp), Unary(tanh), Unary(sigmoid), Unary(relu), Unary(square),
                         Unary(softmax), Unary(log_softmax)}) {
    expect_same_bits_of_every_slice([&](const Tensor& x, const Tensor&) { return op(x); });
  }
  expect_same_bits_of_every_slice(
      [](const Tensor& x, const Tensor&) { return sum(x, {.axes = {1}}); });
  expect_same_bits_of_every_slice(
      [](const Tensor& x, const Tensor& labels) { return cross_entropy(x, labels); });
  expect_same_bits_of_every_slice([](const Tensor& x, const Tensor& labels) {
    return dropout(x, labels, ids_of({3, 1}), {.rate = 0.3});
  });
}

// ---- dropout ----

TEST(Dropout, KeepsTheStatedShareAndScalesIt) {
  const std::int64_t samples = 64;
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < samples; ++i) {
    ids.push_back(i);
  }
  const Tensor y = dropout(Tensor::full({samples, 1000}, kFloat32, 1.0), ids_of(ids),
                           ids_of({7, 0}), {.rate = 0.3});
  std::int64_t kept = 0;
  for (const float value : y.data<float>()) {
    ASSERT_TRUE(value == 0.0F || value == static_cast<float>(1.0 / 0.7));
    kept += value != 0.0F ? 1 : 0;
  }
  // 64,000 draws with p = 0.7: the standard deviation is 116; six of them.
  EXPECT_NEAR(static_cast<double>(kept), 0.7 * 64000, 700.0);
}

TEST(Dropout, ChangesWithSeedEpochSampleAndOpOnly) {
  const Tensor x = Tensor::full({1, 256}, kFloat32, 1.0);
  const auto mask = [&](std::int64_t seed, std::int64_t epoch, std::int64_t sample,
                        std::int64_t op) {
    return dropout(x, ids_of({sample}), ids_of({seed, epoch}), {.rate = 0.5, .op_index = op});
  };
  const Tensor base = mask(1, 2, 3, 4);
  EXPECT_TRUE(same_bits(base, mask(1, 2, 3, 4)));
  EXPECT_FALSE(same_bits(base, mask(9, 2, 3, 4)));
  EXPECT_FALSE(same_bits(base, mask(1, 9, 3, 4)));
  EXPECT_FALSE(same_bits(base, mask(1, 2, 9, 4)));
  EXPECT_FALSE(same_bits(base, mask(1, 2, 3, 9)));
}

TEST(Dropout, OfRateZeroIsTheIdentity) {
  const Tensor x = random_tensor({kFloat32, {3, 50}}, 4);
  EXPECT_TRUE(same_bits(dropout(x, ids_of({5, 6, 7}), ids_of({1, 1}), {.rate = 0.0}), x));
}

}  // namespace
}  // namespace superstep::kernels
