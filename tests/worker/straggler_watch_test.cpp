#include "worker/straggler_watch.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace superstep::worker {
namespace {

using ::testing::HasSubstr;

std::vector<Straggler> judge(StragglerWatch& watch, const std::vector<double>& medians) {
  return watch.judge(medians);
}

TEST(StragglerWatch, NamesASlowRankOnceAfterTwoWindows) {
  StragglerWatch watch;
  const std::vector<double> medians = {1.0, 1.1, 2.5, 0.9};
  EXPECT_TRUE(judge(watch, medians).empty());
  const std::vector<Straggler> named = judge(watch, medians);
  ASSERT_EQ(named.size(), 1U);
  EXPECT_EQ(named[0].rank, 2);
  EXPECT_DOUBLE_EQ(named[0].slowdown, 2.5);
  EXPECT_THAT(named[0].to_text(), HasSubstr("rank 2 is slow: it takes 2.5 times"));
  EXPECT_TRUE(judge(watch, medians).empty());
}

TEST(StragglerWatch, OneSlowWindowNamesNobody) {
  StragglerWatch watch;
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(judge(watch, {1.0, i % 2 == 0 ? 9.0 : 1.0}).empty());
  }
}

TEST(StragglerWatch, ARankThatRecoveredIsNamedAgain) {
  StragglerWatch watch;
  judge(watch, {1.0, 2.0});
  EXPECT_EQ(judge(watch, {1.0, 2.0}).size(), 1U);
  EXPECT_TRUE(judge(watch, {1.0, 1.0}).empty());
  judge(watch, {1.0, 2.0});
  EXPECT_EQ(judge(watch, {1.0, 2.0}).size(), 1U);
}

TEST(StragglerWatch, EvenTimesAndRanksWithoutSamplesNameNobody) {
  StragglerWatch watch;
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(judge(watch, {1.0, 1.7, 1.2, 0.0}).empty());
    EXPECT_TRUE(judge(watch, {0.0, 0.0}).empty());
    EXPECT_TRUE(judge(watch, {3.0}).empty());
  }
}

TEST(StragglerWatch, AWindowIsJudgedByItsMedianPerSample) {
  StragglerWatch watch;
  for (std::int64_t i = 0; i < StragglerWatch::kWindow; ++i) {
    EXPECT_FALSE(watch.is_due());
    watch.note(i == 2 ? 1000.0 : 4.0, 2);
  }
  EXPECT_TRUE(watch.is_due());
  EXPECT_DOUBLE_EQ(watch.my_median(), 2.0);
  EXPECT_FALSE(watch.is_due());
}

}  // namespace
}  // namespace superstep::worker
