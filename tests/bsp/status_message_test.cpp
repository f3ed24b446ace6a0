// The answers about ranks of other processes.
#include "bsp/status_message.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace superstep::bsp::internal {
namespace {

RankStatus example() {
  return {.visible = true,
          .state = RankState::kInCall,
          .kind = CallKind::kGather,
          .context = 5,
          .calls = 77,
          .superstep = 12,
          .site = "worker/trainer.cpp:40",
          .phase = "backward",
          .doing = "stopped (T)"};
}

TEST(StatusMessage, ReadsBack) {
  const std::string text = encode_statuses(std::vector<StatusOfRank>{{2, example()}, {0, {}}});
  const auto read = decode_statuses(text, 3);
  ASSERT_TRUE(read);
  ASSERT_EQ(read->size(), 2U);
  const auto& [rank, status] = read->front();
  EXPECT_EQ(rank, 2);
  EXPECT_TRUE(status.visible);
  EXPECT_EQ(status.state, RankState::kInCall);
  EXPECT_EQ(status.kind, CallKind::kGather);
  EXPECT_EQ(status.context, 5U);
  EXPECT_EQ(status.calls, 77U);
  EXPECT_EQ(status.superstep, 12U);
  EXPECT_EQ(status.site, "worker/trainer.cpp:40");
  EXPECT_EQ(status.phase, "backward");
  EXPECT_EQ(status.doing, "stopped (T)");
  EXPECT_EQ(encode_statuses(*read), text);
  EXPECT_FALSE(decode_statuses(text, 2)) << "rank 2 of 2";
}

// The board keeps the end of a long name, wherever a character begins.
TEST(StatusMessage, TravelsWithACharacterThatWasCut) {
  RankStatus cut = example();
  cut.phase = "\xa4rung";  // of "Währung"
  const auto read = decode_statuses(encode_statuses(std::vector<StatusOfRank>{{0, cut}}), 1);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->front().second.phase, "\xef\xbf\xbdrung");
}

TEST(StatusMessage, WhatIsNoAnswerIsNone) {
  const std::string good = R"([[0,2,6,5,77,12,"a","b","c"]])";
  ASSERT_TRUE(decode_statuses(good, 1));
  EXPECT_TRUE(decode_statuses("[]", 1));
  for (const char* bad :
       {"", "?", "{}", "[3]", "[[]]", R"([[0,2,6,5,77,12,"a","b"]])",
        R"([[0,2,20,5,77,12,"a","b","c"]])", R"([[0,4,6,5,77,12,"a","b","c"]])",
        R"([[-1,2,6,5,77,12,"a","b","c"]])", R"([[0,2,6,4294967296,77,12,"a","b","c"]])",
        R"([[0,2,6,5,1e300,12,"a","b","c"]])", R"([[0,2,6,5,77,12,null,"b","c"]])",
        R"([[0,2,6,5,77,18446744073709551615,"a","b","c"]])"}) {
    EXPECT_FALSE(decode_statuses(bad, 1)) << bad;
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_statuses(good.substr(0, size), 1)) << size;
  }
}

}  // namespace
}  // namespace superstep::bsp::internal
