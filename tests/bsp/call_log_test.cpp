#include "bsp/call_log.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bsp/source_path.h"

namespace superstep::bsp::internal {
namespace {

using ::testing::HasSubstr;

CallRecord allreduce(std::int64_t count, int line = 10) {
  return {.kind = CallKind::kAllreduce,
          .type = static_cast<std::uint8_t>(DataType::kFloat32),
          .op = static_cast<std::uint8_t>(ReduceOp::kSum),
          .count = count,
          .site = {"/home/x/project/worker/trainer.cpp", line}};
}

TEST(CallLog, HashesEqualCallsEquallyWhereverTheyAreMade) {
  CallLog a;
  CallLog b;
  a.append(allreduce(3, 10));
  b.append(allreduce(3, 99));
  EXPECT_EQ(a.hash(), b.hash());
  b.append({.kind = CallKind::kSync});
  EXPECT_NE(a.hash(), b.hash());
}

TEST(CallLog, HashesEveryArgumentThatMustAgree) {
  const CallRecord reference = allreduce(3);
  std::vector<CallRecord> others(6, reference);
  others[0].kind = CallKind::kBroadcast;
  others[1].type = static_cast<std::uint8_t>(DataType::kInt32);
  others[2].op = static_cast<std::uint8_t>(ReduceOp::kMin);
  others[3].root = 1;
  others[4].count = 4;
  others[5].detail = 1;
  CallLog log;
  log.append(reference);
  for (const CallRecord& record : others) {
    CallLog other;
    other.append(record);
    EXPECT_NE(log.hash(), other.hash()) << describe(record);
  }
}

TEST(CallLog, DependsOnTheOrderOfCalls) {
  CallLog a;
  CallLog b;
  a.append(allreduce(1));
  a.append(allreduce(2));
  b.append(allreduce(2));
  b.append(allreduce(1));
  EXPECT_NE(a.hash(), b.hash());
  a.clear();
  EXPECT_EQ(a.hash(), CallLog().hash());
}

TEST(CallLog, NamesTheFirstCallThatDiffersAndItsRanks) {
  CallLog usual;
  CallLog deviating;
  usual.append(allreduce(3));
  deviating.append(allreduce(3));
  usual.append(allreduce(4, 20));
  deviating.append({.kind = CallKind::kBroadcast, .root = 0, .count = 4, .site = {"a/b.cpp", 7}});
  const std::vector<std::string> texts{usual.to_text(), deviating.to_text(), usual.to_text()};
  const std::vector<int> ranks{0, 1, 2};
  const std::string difference = first_difference(texts, ranks);
  EXPECT_THAT(difference, HasSubstr("ranks {0, 2}: call 2 since the last sync: allreduce(float32, "
                                    "sum, 4 elements) at project/worker/trainer.cpp:20"));
  EXPECT_THAT(difference, HasSubstr("ranks {1}: call 2 since the last sync: broadcast(4 elements, "
                                    "root 0) at a/b.cpp:7"));
}

TEST(CallLog, NamesRanksThatMadeNoFurtherCall) {
  CallLog longer;
  longer.append(allreduce(3));
  const std::vector<std::string> texts{longer.to_text(), ""};
  const std::vector<int> ranks{0, 1};
  EXPECT_THAT(first_difference(texts, ranks), HasSubstr("ranks {1}: no further call"));
}

TEST(CallLog, ForgetsOldCallsButNotThatTheyWereMade) {
  CallLog a;
  CallLog b;
  b.append({.kind = CallKind::kSync});
  a.append(allreduce(0));
  for (int i = 0; i < 10'000; ++i) {
    a.append(allreduce(1));
    b.append(allreduce(1));
  }
  EXPECT_NE(a.hash(), b.hash());
  const std::vector<std::string> texts{a.to_text(), b.to_text()};
  EXPECT_LT(texts[0].size(), 1'000'000U);
  const std::vector<int> ranks{0, 1};
  EXPECT_THAT(first_difference(texts, ranks), HasSubstr("longer ago than the calls kept"));
}

TEST(CallLog, LogsOfAProcessAreSplitAsTheyWereJoined) {
  const std::vector<std::string> logs{"a\nb\n", "", "c\n"};
  EXPECT_EQ(split_logs(join_logs(logs), 3), logs);
  EXPECT_EQ(split_logs("a", 3), (std::vector<std::string>{"a", "", ""}));
  EXPECT_EQ(split_logs("", 2), (std::vector<std::string>{"", ""}));
}

TEST(DescribeRanks, ShortensLongLists) {
  std::vector<int> ranks(20);
  EXPECT_THAT(describe_ranks(ranks), HasSubstr("and 4 more"));
}

TEST(SourcePath, IsNamedFromTheProjectOn) {
  EXPECT_EQ(path_in_project(__FILE__), "tests/bsp/call_log_test.cpp");
  EXPECT_EQ(path_in_project("/home/a/other/src/main.cpp"), "other/src/main.cpp");
  EXPECT_EQ(path_in_project("main.cpp"), "main.cpp");
  EXPECT_EQ(path_in_project(""), "");
}

}  // namespace
}  // namespace superstep::bsp::internal
