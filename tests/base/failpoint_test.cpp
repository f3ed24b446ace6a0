#include "base/failpoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"

namespace superstep {
namespace {

using testing::error_text;
using ::testing::HasSubstr;

std::string complaint(const char* text) {
  return error_text<InvalidArgument>([&] { parse_faults(text); });
}

TEST(Failpoint, ReadsFaults) {
  const std::vector<FailpointFault> faults = parse_faults(
      "point=a.b,rank=1,superstep=7,nth=3,attempt=0,action=exit:9;seed=5,probability=0.25,action="
      "kill");
  ASSERT_EQ(faults.size(), 2U);
  EXPECT_EQ(faults[0].point, "a.b");
  EXPECT_EQ(faults[0].rank, 1);
  EXPECT_EQ(faults[0].superstep, 7);
  EXPECT_EQ(faults[0].nth, 3);
  EXPECT_EQ(faults[0].attempt, 0);
  EXPECT_EQ(faults[0].action, "exit");
  EXPECT_EQ(faults[0].argument, 9);
  EXPECT_EQ(faults[1].seed, 5);
  EXPECT_EQ(faults[1].probability, 0.25);
  EXPECT_TRUE(parse_faults("").empty());
}

TEST(Failpoint, RefusesWhatItDoesNotUnderstand) {
  EXPECT_THAT(complaint("rank=1"), HasSubstr("no action in \"rank=1\""));
  EXPECT_THAT(complaint("action=kil"), HasSubstr("did you mean \"kill\"?"));
  EXPECT_THAT(complaint("rnk=1,action=kill"), HasSubstr("key \"rnk\" is unknown"));
  EXPECT_THAT(complaint("rank=x,action=kill"), HasSubstr("got \"x\""));
  EXPECT_THAT(complaint("rank=-1,action=kill"), HasSubstr("got \"-1\""));
  EXPECT_THAT(complaint("probability=2,action=kill"), HasSubstr("got \"2\""));
  EXPECT_THAT(complaint("action=exit:x"), HasSubstr("got \"x\""));
}

TEST(Failpoint, MatchesWhatIsGiven) {
  const FailpointPlace place{.point = "gradient", .rank = 2, .superstep = 5, .attempt = 1};
  EXPECT_TRUE(matches(parse_faults("action=kill")[0], place));
  EXPECT_TRUE(
      matches(parse_faults("point=gradient,rank=2,superstep=5,attempt=1,action=kill")[0], place));
  for (const char* other : {"point=x,action=kill", "rank=1,action=kill", "superstep=4,action=kill",
                            "attempt=0,action=kill"}) {
    EXPECT_FALSE(matches(parse_faults(other)[0], place)) << other;
  }
}

TEST(Failpoint, FiresTheNthTimeOrEveryTime) {
  const FailpointFault third = parse_faults("nth=3,action=kill")[0];
  const FailpointFault always = parse_faults("nth=0,action=kill")[0];
  for (std::int64_t count = 1; count < 9; ++count) {
    EXPECT_EQ(fires(third, {}, count), count == 3);
    EXPECT_TRUE(fires(always, {}, count));
  }
}

TEST(Failpoint, RandomFaultsRepeatAndDependOnSeedAttemptAndRank) {
  const auto fired = [](const char* text, FailpointPlace place) {
    std::vector<std::int64_t> counts;
    for (std::int64_t count = 1; count <= 20'000; ++count) {
      if (fires(parse_faults(text)[0], place, count)) {
        counts.push_back(count);
      }
    }
    return counts;
  };
  const char* text = "seed=5,probability=0.01,action=kill";
  const std::vector<std::int64_t> first = fired(text, {.point = "p", .rank = 1});
  EXPECT_EQ(fired(text, {.point = "p", .rank = 1}), first);
  EXPECT_NEAR(static_cast<double>(first.size()), 200.0, 60.0);  // four standard deviations
  EXPECT_NE(fired(text, {.point = "p", .rank = 2}), first);
  EXPECT_NE(fired(text, {.point = "p", .rank = 1, .attempt = 1}), first);
  EXPECT_NE(fired("seed=6,probability=0.01,action=kill", {.point = "p", .rank = 1}), first);
}

TEST(Failpoint, SpoilsOneElement) {
  const auto spoiled = [](const char* text) {
    std::vector<float> data(100, 2.0F);
    spoil(parse_faults(text)[0], data);
    EXPECT_EQ(std::count(data.begin(), data.end(), 2.0F), 99) << text;
    return *std::find_if(data.begin(), data.end(), [](float value) { return value != 2.0F; });
  };
  EXPECT_TRUE(std::isnan(spoiled("action=nan")));
  EXPECT_TRUE(std::isinf(spoiled("action=inf")));
  EXPECT_EQ(spoiled("action=spike"), 2e6F);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(spoiled("action=flip:3")),
            std::bit_cast<std::uint32_t>(2.0F) ^ 8U);
  std::vector<float> none;
  spoil(parse_faults("action=nan")[0], none);
}

TEST(Failpoint, SpoilsTheElementThatIsNamed) {
  std::vector<float> data(100, 2.0F);
  spoil(parse_faults("action=spike,element=42")[0], data);
  spoil(parse_faults("action=spike,element=100")[0], data);
  EXPECT_EQ(data[42], 2e6F);
  EXPECT_EQ(std::count(data.begin(), data.end(), 2.0F), 99);
}

#ifndef SUPERSTEP_FAILPOINTS
TEST(Failpoint, AReleaseBuildHasNone) {
  const auto fail = []() -> int {
    ADD_FAILURE() << "the arguments of a failpoint were evaluated";
    return 0;
  };
  SUPERSTEP_FAILPOINT_HERE(fail(), fail());
  SUPERSTEP_FAILPOINT((fail(), "point"));
  SUPERSTEP_FAILPOINT_DATA("point", (fail(), std::span<float>()));
  static_cast<void>(fail);
}
#endif

}  // namespace
}  // namespace superstep
