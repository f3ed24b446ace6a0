#include "worker/federated/compression.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::worker {
namespace {

std::vector<float> example(std::size_t size) {
  std::vector<float> values(size);
  fill_normal(values, PhiloxStream(5, size), 0.0F, 1.0F);
  return values;
}

std::int64_t apply(const CompressionOptions& options, std::vector<float>& values, int key = 1) {
  return compress(options, PhiloxStream(3, key), values);
}

TEST(Compression, TopKKeepsTheLargestAndCountsValuesAndIndices) {
  std::vector<float> values = {1, -5, 0.5F, 5, 2, 5};
  EXPECT_EQ(apply({.kind = CompressionKind::kTopK, .keep = 0.5}, values), 24);
  EXPECT_EQ(values, (std::vector<float>{0, -5, 0, 5, 0, 5}));
  values = {1, 1, 1, 1};
  apply({.kind = CompressionKind::kTopK, .keep = 0.25}, values);
  EXPECT_EQ(values, (std::vector<float>{1, 0, 0, 0}));
}

TEST(Compression, SignKeepsTheMeanAbsoluteValue) {
  std::vector<float> values = {1, -3, 0.5F, -0.5F};
  EXPECT_EQ(apply({.kind = CompressionKind::kSign}, values), 5);
  EXPECT_EQ(values, (std::vector<float>{1.25F, -1.25F, 1.25F, -1.25F}));
  values = {2, 0.0F, -2, -0.0F, 0, 0, 0, 0};  // what has not moved does not move
  EXPECT_EQ(apply({.kind = CompressionKind::kSign}, values), 6);
  EXPECT_EQ(values, (std::vector<float>{0.5F, 0, -0.5F, 0, 0, 0, 0, 0}));
}

TEST(Compression, RandomKKeepsSoManyElements) {
  std::vector<float> values = example(1000);
  const std::vector<float> before = values;
  EXPECT_EQ(apply({.kind = CompressionKind::kRandomK, .keep = 0.1}, values), 408);
  int kept = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != 0.0F) {
      EXPECT_FLOAT_EQ(values[i], 10.0F * before[i]);
      ++kept;
    }
  }
  EXPECT_EQ(kept, 100);
}

TEST(Compression, SaysHowFarDecodingScales) {
  EXPECT_EQ(scale_of_decoding({.kind = CompressionKind::kRandomK, .keep = 0.1}, 1000), 10.0);
  EXPECT_EQ(
      scale_of_decoding(
          {.kind = CompressionKind::kRandomK, .keep = 0.1, .error_feedback = ErrorFeedback::kOn},
          1000),
      1.0);
  EXPECT_EQ(scale_of_decoding({.kind = CompressionKind::kTopK, .keep = 0.1}, 1000), 1.0);
}

// The mean of many compressions is the update, within 5 standard errors of the worst element.
TEST(Compression, UnbiasedKindsAreUnbiased) {
  constexpr int kDraws = 4000;
  const std::vector<float> update = example(40);
  for (const CompressionOptions& options :
       {CompressionOptions{.kind = CompressionKind::kQsgd, .levels = 2},
        CompressionOptions{.kind = CompressionKind::kRandomK, .keep = 0.25},
        CompressionOptions{.kind = CompressionKind::kRotation, .bits = 2}}) {
    std::vector<double> sums(update.size(), 0.0);
    std::vector<double> squares(update.size(), 0.0);
    for (int draw = 0; draw < kDraws; ++draw) {
      std::vector<float> values = update;
      apply(options, values, draw);
      for (std::size_t i = 0; i < values.size(); ++i) {
        sums[i] += static_cast<double>(values[i]);
        squares[i] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      }
    }
    for (std::size_t i = 0; i < update.size(); ++i) {
      const double mean = sums[i] / kDraws;
      const double error = std::sqrt(std::max(0.0, squares[i] / kDraws - mean * mean) / kDraws);
      EXPECT_NEAR(mean, static_cast<double>(update[i]), 5.0 * error + 1e-6)
          << name_of(options.kind);
    }
  }
}

TEST(Compression, RotationIsFinerWithMoreBitsAndPadsToAPowerOfTwo) {
  const std::vector<float> update = example(1000);
  double before = 1e9;
  for (const int bits : {2, 4, 8}) {
    std::vector<float> values = update;
    EXPECT_EQ(apply({.kind = CompressionKind::kRotation, .bits = bits}, values),
              1024 * bits / 8 + 16);
    double error = 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      error += std::pow(static_cast<double>(values[i] - update[i]), 2);
    }
    EXPECT_LT(error, 0.2 * before);
    before = error;
  }
}

TEST(Compression, QsgdCountsItsFieldsAndBuckets) {
  std::vector<float> values = example(1000);
  // 16 levels: 5 + 1 bits; buckets of 512 and 488.
  EXPECT_EQ(apply({.kind = CompressionKind::kQsgd, .levels = 16}, values), 8 + 384 + 366);
  std::vector<float> zeros(10, 0.0F);
  apply({.kind = CompressionKind::kQsgd}, zeros);
  EXPECT_EQ(zeros, std::vector<float>(10, 0.0F));
}

TEST(Compression, RefusesFieldsOutOfRange) {
  EXPECT_THROW(validate(CompressionOptions{.keep = 0.0}), InvalidArgument);
  EXPECT_THROW(validate(CompressionOptions{.keep = std::nan("")}), InvalidArgument);
  EXPECT_THROW(validate(CompressionOptions{.levels = 0}), InvalidArgument);
  EXPECT_THROW(validate(CompressionOptions{.bits = 17}), InvalidArgument);
}

}  // namespace
}  // namespace superstep::worker
