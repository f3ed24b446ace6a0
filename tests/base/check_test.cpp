#include "base/check.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_text.h"

namespace superstep {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using testing::error_text;
using ::testing::HasSubstr;

std::string message_of_failed_check(int begin, int end) {
  return error_text<CheckFailure>(
      [&] { SUPERSTEP_CHECK(begin <= end, "shard range", begin, end); });
}

TEST(Check, HoldingConditionDoesNothing) {
  EXPECT_EQ(message_of_failed_check(1, 2), "");
}

TEST(Check, FailureNamesFileConditionAndValues) {
  EXPECT_THAT(
      message_of_failed_check(7, 5),
      AllOf(HasSubstr("check_test.cpp:"), EndsWith("check failed: begin <= end: shard range 7 5")));
}

TEST(Check, DetailIsOptional) {
  try {
    SUPERSTEP_CHECK(1 + 1 == 3);
    FAIL() << "the check must throw";
  } catch (const CheckFailure& failure) {
    EXPECT_THAT(failure.what(), EndsWith("check failed: 1 + 1 == 3"));
  }
}

TEST(Check, DetailIsEvaluatedOnlyOnFailure) {
  int evaluations = 0;
  SUPERSTEP_CHECK(true, ++evaluations);
  EXPECT_EQ(evaluations, 0);
}

TEST(Check, DebugCheckFollowsTheBuildType) {
  bool thrown = false;
  try {
    SUPERSTEP_DEBUG_CHECK(false, "debug only");
  } catch (const CheckFailure&) {
    thrown = true;
  }
#ifdef NDEBUG
  EXPECT_FALSE(thrown);
#else
  EXPECT_TRUE(thrown);
#endif
}

}  // namespace
}  // namespace superstep
