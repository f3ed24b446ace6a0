#include "worker/recheck_verdict.h"

#include <vector>

#include <gtest/gtest.h>

namespace superstep::worker {
namespace {

using Kind = RecheckVerdict::Kind;

constexpr Hash128 kA{.low = 1, .high = 9};
constexpr Hash128 kB{.low = 2, .high = 9};
constexpr Hash128 kC{.low = 3, .high = 9};

// The owner 4 and its partner 7, twice each, and perhaps the third rank 2.
RecheckVerdict verdict(const Hash128& owner, const Hash128& partner, const Hash128& owner_again,
                       const Hash128& partner_again) {
  return judge(
      std::vector<Computation>{{4, owner}, {7, partner}, {4, owner_again}, {7, partner_again}});
}
RecheckVerdict verdict(const Hash128& owner, const Hash128& partner, const Hash128& owner_again,
                       const Hash128& partner_again, const Hash128& third) {
  return judge(std::vector<Computation>{
      {4, owner}, {7, partner}, {4, owner_again}, {7, partner_again}, {2, third}});
}

RecheckVerdict blames(Kind kind, int rank) {
  return {.kind = kind, .rank = rank};
}
RecheckVerdict undecided(int rank, int other) {
  return {.kind = Kind::kUndecided, .rank = rank, .other = other};
}

TEST(RecheckVerdict, AFirstResultThatIsTheOddOneOutIsTransient) {
  EXPECT_EQ(verdict(kB, kA, kA, kA), blames(Kind::kTransient, 4));
  EXPECT_EQ(verdict(kA, kB, kA, kA), blames(Kind::kTransient, 7));
  EXPECT_EQ(verdict(kB, kA, kA, kA, kA), blames(Kind::kTransient, 4));
  EXPECT_EQ(verdict(kA, kB, kA, kA, kA), blames(Kind::kTransient, 7));
}

TEST(RecheckVerdict, AnErrorInTheSecondComputationIsTransientToo) {
  EXPECT_EQ(verdict(kA, kA, kB, kA), blames(Kind::kTransient, 4));
  EXPECT_EQ(verdict(kA, kA, kA, kB, kA), blames(Kind::kTransient, 7));
}

TEST(RecheckVerdict, TwoRanksThatInsistAreUndecided) {
  EXPECT_EQ(verdict(kA, kB, kA, kB), undecided(4, 7));
}

TEST(RecheckVerdict, AThirdRankDecidesBetweenTwoThatInsist) {
  EXPECT_EQ(verdict(kA, kB, kA, kB, kB), blames(Kind::kPersistent, 4));
  EXPECT_EQ(verdict(kA, kB, kA, kB, kA), blames(Kind::kPersistent, 7));
  EXPECT_EQ(verdict(kA, kB, kA, kB, kC), undecided(4, 7));
}

TEST(RecheckVerdict, ARankThatIsWrongInAnotherWayEachTimeIsToBlame) {
  EXPECT_EQ(verdict(kB, kA, kC, kA), blames(Kind::kPersistent, 4));
  EXPECT_EQ(verdict(kA, kB, kA, kC), blames(Kind::kPersistent, 7));
  EXPECT_EQ(verdict(kB, kA, kC, kA, kA), blames(Kind::kPersistent, 4));
}

TEST(RecheckVerdict, TwoRanksThatWereWrongAreBothSuspects) {
  EXPECT_EQ(verdict(kB, kC, kA, kA), undecided(4, 7));
  EXPECT_EQ(verdict(kB, kC, kA, kA, kA), undecided(4, 7));
  EXPECT_EQ(verdict(kA, kB, kB, kA), undecided(4, 7));
}

TEST(RecheckVerdict, ThirdRanksCanBeWrongToo) {
  EXPECT_EQ(verdict(kB, kA, kA, kA, kC), undecided(4, 2));
}

TEST(RecheckVerdict, ARankThatIsAloneIsToBlame) {
  EXPECT_EQ(judge(std::vector<Computation>{{0, kA}, {0, kB}, {0, kB}}),
            blames(Kind::kTransient, 0));
  EXPECT_EQ(judge(std::vector<Computation>{{0, kA}, {0, kB}, {0, kA}}),
            blames(Kind::kTransient, 0));
  EXPECT_EQ(judge(std::vector<Computation>{{0, kA}, {0, kB}, {0, kC}}),
            blames(Kind::kPersistent, 0));
}

}  // namespace
}  // namespace superstep::worker
