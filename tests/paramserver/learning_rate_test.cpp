#include "paramserver/learning_rate.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/error.h"
#include "tests/support/error_text.h"

namespace superstep::paramserver {
namespace {

using testing::error_text;
using ::testing::HasSubstr;

std::string problem_of_schedule(const LearningRateSchedule& schedule) {
  return error_text<InvalidArgument>([&] { validate(schedule); });
}

TEST(LearningRate, StaysConstant) {
  const LearningRateSchedule schedule;
  EXPECT_EQ(learning_rate_at(schedule, 0.05, 1), 0.05);
  EXPECT_EQ(learning_rate_at(schedule, 0.05, 1'000'000), 0.05);
}

TEST(LearningRate, WarmsUpLinearlyToTheFullRate) {
  const LearningRateSchedule schedule{.warmup_steps = 4};
  EXPECT_EQ(learning_rate_at(schedule, 0.8, 1), 0.2);
  EXPECT_EQ(learning_rate_at(schedule, 0.8, 2), 0.4);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 0.8, 3), 0.6);
  EXPECT_EQ(learning_rate_at(schedule, 0.8, 4), 0.8);
  EXPECT_EQ(learning_rate_at(schedule, 0.8, 5), 0.8);
}

TEST(LearningRate, DropsAfterEachBoundary) {
  const LearningRateSchedule schedule{
      .kind = ScheduleKind::kStep, .boundaries = {10, 20}, .gamma = 0.5};
  EXPECT_EQ(learning_rate_at(schedule, 0.4, 10), 0.4);
  EXPECT_EQ(learning_rate_at(schedule, 0.4, 11), 0.2);
  EXPECT_EQ(learning_rate_at(schedule, 0.4, 20), 0.2);
  EXPECT_EQ(learning_rate_at(schedule, 0.4, 21), 0.1);
}

TEST(LearningRate, WarmsUpBeforeSteps) {
  const LearningRateSchedule schedule{
      .kind = ScheduleKind::kStep, .warmup_steps = 2, .boundaries = {1}, .gamma = 0.5};
  EXPECT_EQ(learning_rate_at(schedule, 0.4, 1), 0.2);
  EXPECT_EQ(learning_rate_at(schedule, 0.4, 2), 0.2);
}

TEST(LearningRate, FollowsHalfACosine) {
  const LearningRateSchedule schedule{
      .kind = ScheduleKind::kCosine, .total_steps = 13, .final_factor = 0.2};
  EXPECT_EQ(learning_rate_at(schedule, 1.0, 1), 1.0);
  EXPECT_NEAR(learning_rate_at(schedule, 1.0, 5), 0.2 + 0.8 * 0.75, 1e-15);  // t = 1/3: cos = 1/2
  EXPECT_NEAR(learning_rate_at(schedule, 1.0, 7), 0.6, 1e-15);               // t = 1/2
  EXPECT_NEAR(learning_rate_at(schedule, 1.0, 9), 0.2 + 0.8 * 0.25, 1e-15);  // t = 2/3: cos = -1/2
  EXPECT_EQ(learning_rate_at(schedule, 1.0, 13), 0.2);
  EXPECT_EQ(learning_rate_at(schedule, 1.0, 1000), 0.2);
}

TEST(LearningRate, StartsTheCosineWhereTheWarmUpEnds) {
  const LearningRateSchedule schedule{
      .kind = ScheduleKind::kCosine, .warmup_steps = 10, .total_steps = 20};
  EXPECT_EQ(learning_rate_at(schedule, 2.0, 5), 1.0);
  EXPECT_EQ(learning_rate_at(schedule, 2.0, 10), 2.0);
  EXPECT_NEAR(learning_rate_at(schedule, 2.0, 15), 1.0, 1e-15);
  EXPECT_EQ(learning_rate_at(schedule, 2.0, 20), 0.0);
}

TEST(LearningRate, DecaysAsAPolynomial) {
  LearningRateSchedule schedule{
      .kind = ScheduleKind::kPolynomial, .total_steps = 5, .power = 2.0, .final_factor = 0.1};
  EXPECT_EQ(learning_rate_at(schedule, 1.0, 1), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 3), 0.1 + 0.9 * 0.25);
  EXPECT_EQ(learning_rate_at(schedule, 1.0, 5), 0.1);
  schedule.power = 1.0;
  EXPECT_DOUBLE_EQ(learning_rate_at(schedule, 1.0, 2), 0.1 + 0.9 * 0.75);
}

TEST(LearningRate, NeverLeavesTheBaseRateUpwards) {
  for (const ScheduleKind kind : {ScheduleKind::kConstant, ScheduleKind::kStep,
                                  ScheduleKind::kCosine, ScheduleKind::kPolynomial}) {
    const LearningRateSchedule schedule{
        .kind = kind, .warmup_steps = 7, .total_steps = 40, .boundaries = {15, 30}};
    for (std::int64_t step = 2; step < 60; ++step) {
      const double rate = learning_rate_at(schedule, 1.0, step);
      EXPECT_GE(rate, 0.0);
      EXPECT_LE(rate, 1.0);
      if (step > 7) {
        EXPECT_LE(rate, learning_rate_at(schedule, 1.0, step - 1)) << name_of(kind) << step;
      } else {
        EXPECT_GT(rate, learning_rate_at(schedule, 1.0, step - 1)) << name_of(kind) << step;
      }
    }
  }
}

TEST(LearningRate, RefusesStepZero) {
  EXPECT_THROW(learning_rate_at({}, 0.1, 0), CheckFailure);
}

TEST(LearningRate, NamesTheKindsBothWays) {
  for (const char* name : {"constant", "step", "cosine", "polynomial"}) {
    EXPECT_EQ(name_of(schedule_kind(name)), name);
  }
  try {
    schedule_kind("cosin");
    FAIL() << "an unknown kind was taken";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"cosine\"?"));
  }
}

TEST(LearningRate, RefusesImpossibleSchedules) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr auto kStep = ScheduleKind::kStep;
  constexpr auto kCosine = ScheduleKind::kCosine;
  constexpr auto kPolynomial = ScheduleKind::kPolynomial;
  EXPECT_THAT(problem_of_schedule({.warmup_steps = -1}), HasSubstr("warmup_steps: got -1"));
  EXPECT_THAT(problem_of_schedule({.kind = kStep}), HasSubstr("boundaries: got none"));
  EXPECT_THAT(problem_of_schedule({.kind = kStep, .boundaries = {5, 5}}),
              HasSubstr("out of order"));
  EXPECT_THAT(problem_of_schedule({.kind = kStep, .boundaries = {0, 5}}),
              HasSubstr("out of order"));
  EXPECT_THAT(problem_of_schedule({.kind = kStep, .boundaries = {5}, .gamma = 0}),
              HasSubstr("gamma: got 0"));
  EXPECT_THAT(problem_of_schedule({.kind = kCosine}), HasSubstr("total_steps: got 0"));
  EXPECT_THAT(problem_of_schedule({.kind = kCosine, .warmup_steps = 5, .total_steps = 5}),
              HasSubstr("more than warmup_steps = 5"));
  EXPECT_THAT(problem_of_schedule({.kind = kCosine, .total_steps = 5, .final_factor = 1.5}),
              HasSubstr("final_factor: got 1.5"));
  EXPECT_THAT(problem_of_schedule({.kind = kPolynomial, .total_steps = 5, .power = kNan}),
              HasSubstr("power: got nan"));
  EXPECT_EQ(problem_of_schedule({.kind = kPolynomial, .warmup_steps = 4, .total_steps = 5}), "");
  EXPECT_EQ(problem_of_schedule({}), "");
}

}  // namespace
}  // namespace superstep::paramserver
