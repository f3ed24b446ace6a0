// What `superstep launch` reads in mpirun's standard error.
#include "cluster/launch_diagnosis.h"

#include <string>

#include <gtest/gtest.h>

namespace superstep::cluster {
namespace {

constexpr const char* kKillMessage =
    "--------------------------------------------------------------------------\n"
    "mpirun noticed that process rank 1 with PID 0 on node node-b exited on signal 9 (Killed).\n";

TEST(Diagnosis, NamesRankAndHost) {
  Diagnosis diagnosis;
  EXPECT_EQ(diagnosis.feed(kKillMessage), kKillMessage);
  ASSERT_TRUE(diagnosis.named());
  EXPECT_EQ(diagnosis.named()->rank, 1);
  EXPECT_EQ(diagnosis.named()->host, "node-b");
  EXPECT_EQ(diagnosis.named()->what, "rank 1 on node-b was ended by signal 9 (Killed)");
}

TEST(Diagnosis, ReadsPiecesOfAnySize) {
  std::string text = "714473472.0;tcp://192.0.2.2:51541;tcp6://[fd00::2]:42951\n";
  text += kKillMessage;
  for (std::size_t size = 1; size < 40; ++size) {
    Diagnosis diagnosis;
    std::string shown;
    for (std::size_t at = 0; at < text.size(); at += size) {
      shown += diagnosis.feed(std::string_view(text).substr(at, size));
    }
    ASSERT_EQ(shown + diagnosis.finish(), kKillMessage);
    ASSERT_EQ(diagnosis.daemon_job(), 714473472U);
    ASSERT_TRUE(diagnosis.named());
  }
}

TEST(Diagnosis, NamesALostNode) {
  Diagnosis diagnosis;
  diagnosis.feed(
      "ORTE has lost communication with a remote daemon.\n\n"
      "  HNP daemon   : [[31222,0],0] on node a\n  Remote daemon: [[31222,0],1] on node "
      "10.99.0.2\n");
  ASSERT_TRUE(diagnosis.named());
  EXPECT_EQ(diagnosis.named()->rank, -1);
  EXPECT_EQ(diagnosis.named()->host, "10.99.0.2");
}

TEST(Diagnosis, NamesANodeThatCannotBeReached) {
  for (const auto& [line, what] :
       {std::pair("ssh: connect to host 10.99.0.2 port 22: No route to host\r\n",
                  "10.99.0.2 cannot be reached: No route to host"),
        std::pair("ssh: Could not resolve hostname node-b: Name or service not known\n",
                  "node-b cannot be reached: Name or service not known")}) {
    Diagnosis diagnosis;
    EXPECT_EQ(diagnosis.feed(line), line);
    EXPECT_FALSE(diagnosis.named()) << "mpirun has not given up";
    EXPECT_EQ(diagnosis.finish(), "");
    ASSERT_TRUE(diagnosis.named()) << line;
    EXPECT_EQ(diagnosis.named()->rank, -1);
    EXPECT_EQ(diagnosis.named()->what, what);
    EXPECT_EQ(diagnosis.named()->what.find(diagnosis.named()->host), 0U);
  }
}

TEST(Diagnosis, WhatMpirunNamesComesBeforeAHostThatSshDidNotReach) {
  Diagnosis diagnosis;
  diagnosis.feed("ssh: connect to host b port 22: Connection timed out\n");
  diagnosis.feed(
      "mpirun noticed that process rank 1 with PID 0 on node a exited on signal 9 (Killed).\n");
  diagnosis.finish();
  ASSERT_TRUE(diagnosis.named());
  EXPECT_EQ(diagnosis.named()->host, "a");
}

TEST(Diagnosis, NamesTheRankThatComputedAWrongGradient) {
  Diagnosis diagnosis;
  diagnosis.feed(
      "superstep: [GradientRecheck] gradients of superstep 12: rank 3 on b or rank 0 on a computed "
      "a "
      "wrong gradient: slot 6, fc/bias[1] is 1 by rank 3 and 2 by rank 0.\n");
  EXPECT_FALSE(diagnosis.named()) << "it is not decided";
  diagnosis.feed(
      "superstep: [GradientRecheck] gradients of superstep 12: rank 3 on node-b computed a wrong "
      "gradient: slot 6, fc/bias[1] is 1 by rank 3 and 2 by rank 0.\n");
  ASSERT_TRUE(diagnosis.named());
  EXPECT_EQ(diagnosis.named()->rank, 3);
  EXPECT_EQ(diagnosis.named()->host, "node-b");
  EXPECT_EQ(diagnosis.named()->what, "rank 3 on node-b computed a wrong gradient");
}

TEST(Diagnosis, NamesTheHostWhoseMemoryChanged) {
  Diagnosis diagnosis;
  diagnosis.feed(
      "[rank 2] [ShardGuard] memory of node-b: rank 2 found optimizer state 0 changed since update "
      "21, where nobody wrote: block 0 (elements 0 to 4095): got 1, expected 2. Suspect the "
      "memory\n");
  ASSERT_TRUE(diagnosis.named());
  EXPECT_EQ(diagnosis.named()->rank, 2);
  EXPECT_EQ(diagnosis.named()->host, "node-b");
}

constexpr const char* kLate =
    "[rank 0] [World] waited 2.00 s in sync at a.cpp:1, superstep 4: ranks {1, 2} did not arrive:\n"
    "  rank 1: computing in superstep 4, phase \"backward\", last call sync at a.cpp:1; host "
    "node-b\n";

TEST(Diagnosis, NamesTheHostOfRanksThatDidNotArrive) {
  Diagnosis diagnosis;
  diagnosis.feed(kLate);
  EXPECT_FALSE(diagnosis.named()) << "the list may go on";
  diagnosis.feed("  rank 2: not started; host node-b\n");
  diagnosis.feed("if the missing ranks were slow rather than lost, raise the deadline\n");
  ASSERT_TRUE(diagnosis.named());
  EXPECT_EQ(diagnosis.named()->rank, 1);
  EXPECT_EQ(diagnosis.named()->what, "rank 1 on node-b did not arrive");
  Diagnosis ended;
  ended.feed(kLate);
  ended.finish();
  ASSERT_TRUE(ended.named());
  EXPECT_EQ(ended.named()->host, "node-b");
}

TEST(Diagnosis, LateRanksOfSeveralHostsAccuseNone) {
  Diagnosis diagnosis;
  diagnosis.feed(kLate);
  diagnosis.feed("  rank 2: not started; host node-c\nto continue:\n");
  diagnosis.finish();
  EXPECT_FALSE(diagnosis.named());
  Diagnosis disagree;
  disagree.feed(
      "ranks {1} wait in another call:\n  rank 1: waits in broadcast at a.cpp:1; host b\n");
  disagree.finish();
  EXPECT_FALSE(disagree.named());
}

TEST(Diagnosis, ALineWithoutEndIsPassedOn) {
  Diagnosis diagnosis;
  const std::string piece(4096, 'x');
  std::size_t shown = 0;
  std::size_t fed = 0;
  for (int i = 0; i < 1000; ++i) {
    shown += diagnosis.feed(piece).size();
    fed += piece.size();
    ASSERT_LE(fed - shown, std::size_t{1} << 16);
  }
  diagnosis.feed("\n");
  diagnosis.feed(kKillMessage);
  EXPECT_TRUE(diagnosis.named());
}

TEST(Diagnosis, OtherTextNamesNobody) {
  Diagnosis diagnosis;
  for (const char* text :
       {"mpirun noticed that process rank x with\n", "mpirun noticed that process rank 1 died\n",
        "\n", "12.0;udp\n", "Remote daemon: [[1,0],1] on node b\n",
        "[rank 1] data: ssh: connect to host b port 22: refused\n"}) {
    EXPECT_EQ(diagnosis.feed(text), text);
  }
  diagnosis.finish();
  EXPECT_FALSE(diagnosis.named());
  EXPECT_FALSE(diagnosis.daemon_job());
}

}  // namespace
}  // namespace superstep::cluster
