#include "worker/metrics.h"

#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/worker/model_support.h"

namespace superstep::worker {
namespace {

using superstep::testing::error_text;
using superstep::testing::int64_tensor;
using superstep::testing::tensor_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PredictClasses, TakesTheFirstOfTheLargestLogits) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto logits = tensor_of<float>({4, 3}, {1, 3, 2,     //
                                                5, 0, 5,     //
                                                -3, -2, -2,  //
                                                -infinity, -infinity, infinity});
  EXPECT_THAT(predict_classes(logits), ElementsAre(1, 0, 1, 2));
}

TEST(PredictClasses, GivesNoPredictionWhereALogitIsNan) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto logits = tensor_of<double>({3, 2}, {nan, 1, 2, nan, 0, 1});
  EXPECT_THAT(predict_classes(logits), ElementsAre(kNoPrediction, kNoPrediction, 1));
}

TEST(CountCorrect, CountsInBothPrecisionsAndNeverANan) {
  const auto labels = int64_tensor({0, 1, 1});
  EXPECT_EQ(count_correct(tensor_of<float>({3, 2}, {2, 1, 2, 1, 1, 2}), labels), 2);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(count_correct(tensor_of<double>({3, 2}, {nan, nan, 0, 1, nan, 7}), labels), 1);
  EXPECT_EQ(count_correct(tensor_of<float>({0, 2}, {}), int64_tensor({})), 0);
}

TEST(CountCorrect, RefusesWhatDoesNotFit) {
  const auto logits = tensor_of<float>({1, 2}, {1, 2});
  EXPECT_EQ(error_text<InvalidArgument>([&] {
              count_correct(logits, int64_tensor({1, 0}));
            }),
            "[count_correct] labels: got int64 (2), expected int64, one per row of logits (1, 2)");
  EXPECT_THAT(
      error_text<InvalidArgument>([&] { count_correct(logits, tensor_of<float>({1}, {0})); }),
      HasSubstr("labels: got float32 (1), expected int64"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                predict_classes(tensor_of<float>({2}, {1, 2}));
              }),
              HasSubstr("shape of logits: got (2), expected (samples, classes)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                predict_classes(tensor_of<std::int32_t>({1, 2}, {1, 2}));
              }),
              HasSubstr("dtype of logits: got int32, expected float32 or float64"));
}

}  // namespace
}  // namespace superstep::worker
