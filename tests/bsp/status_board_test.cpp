#include "bsp/status_board.h"

#include <csignal>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace superstep::bsp::internal {
namespace {

using ::testing::HasSubstr;

constexpr AwaitedCall kAwaited{.kind = CallKind::kSync, .context = 5, .calls = 9};

RankStatus status(RankState state, CallKind kind, std::uint64_t calls, std::uint32_t context = 5) {
  return {.visible = true,
          .state = state,
          .kind = kind,
          .context = context,
          .calls = calls,
          .superstep = 4,
          .site = "worker/trainer.cpp:40",
          .phase = "backward"};
}

TEST(StatusBoard, ReadsWhatARankWrote) {
  StatusBoard board(SharedMapping::anonymous(StatusBoard::bytes_for(2)), {true, false});
  EXPECT_EQ(board.read(0).state, RankState::kNotStarted);
  EXPECT_TRUE(board.read(0).site.empty());
  StatusWriter writer(board.slot(0));
  writer.set_phase("a phase whose name is much longer than what the board keeps of it");
  writer.set_superstep(12);
  writer.enter_call(CallKind::kGather, 3, 77,
                    {"/a/very/long/path/that/does/not/fit/the/entry/of/the/board/file.cpp", 8});
  const RankStatus read = board.read(0);
  EXPECT_TRUE(read.visible);
  EXPECT_EQ(read.state, RankState::kInCall);
  EXPECT_EQ(read.kind, CallKind::kGather);
  EXPECT_EQ(read.calls, 77U);
  EXPECT_EQ(read.superstep, 12U);
  EXPECT_THAT(read.site, ::testing::EndsWith("board/file.cpp:8"));
  EXPECT_THAT(read.phase, ::testing::EndsWith("what the board keeps of it"));
  writer.leave_call();
  EXPECT_EQ(board.read(0).state, RankState::kComputing);
  EXPECT_FALSE(board.read(1).visible);
}

TEST(MissingReport, NamesRanksThatComputeOrHaveFinished) {
  const std::vector<RankStatus> statuses{status(RankState::kInCall, CallKind::kSync, 9),
                                         status(RankState::kComputing, CallKind::kAllreduce, 8),
                                         status(RankState::kFinished, CallKind::kSync, 8)};
  const MissingReport report = report_missing(statuses, kAwaited);
  EXPECT_FALSE(report.ranks_disagree);
  EXPECT_THAT(report.text, HasSubstr("ranks {1, 2} did not arrive"));
  EXPECT_THAT(report.text,
              HasSubstr("rank 1: computing in superstep 4, phase \"backward\", last call "
                        "allreduce at worker/trainer.cpp:40"));
  EXPECT_THAT(report.text, HasSubstr("rank 2: finished after superstep 4"));
}

TEST(MissingReport, EndsEachLineWithTheHost) {
  std::vector<RankStatus> statuses{status(RankState::kInCall, CallKind::kSync, 9),
                                   status(RankState::kNotStarted, CallKind::kNone, 0)};
  statuses[1].host = "node-b";
  EXPECT_THAT(report_missing(statuses, kAwaited).text,
              ::testing::EndsWith("ranks {1} did not arrive:\n  rank 1: not started; host node-b"));
}

TEST(MissingReport, KnowsRanksThatAreAheadOrInAnotherWorld) {
  const std::vector<RankStatus> statuses{status(RankState::kComputing, CallKind::kSync, 10),
                                         status(RankState::kInCall, CallKind::kSync, 9, 6)};
  EXPECT_THAT(report_missing(statuses, kAwaited).text, HasSubstr("ranks {1} did not arrive"));
}

TEST(MissingReport, NamesRanksThatWaitInAnotherCall) {
  const std::vector<RankStatus> statuses{status(RankState::kInCall, CallKind::kSync, 9),
                                         status(RankState::kInCall, CallKind::kBroadcast, 9)};
  const MissingReport report = report_missing(statuses, kAwaited);
  EXPECT_TRUE(report.ranks_disagree);
  EXPECT_THAT(report.text, HasSubstr("ranks {1} wait in another call"));
  EXPECT_THAT(report.text, HasSubstr("rank 1: waits in broadcast at worker/trainer.cpp:40"));
}

// A child process that a signal has stopped.
class StoppedProcess {
 public:
  StoppedProcess() : id_(::fork()) {
    if (id_ == 0) {
      ::raise(SIGSTOP);
      ::_exit(0);
    }
    int state = 0;
    ::waitpid(id_, &state, WUNTRACED);
  }
  StoppedProcess(const StoppedProcess&) = delete;
  StoppedProcess& operator=(const StoppedProcess&) = delete;
  ~StoppedProcess() {
    ::kill(id_, SIGKILL);
    ::waitpid(id_, nullptr, 0);
  }
  pid_t id() const { return id_; }

 private:
  pid_t id_;
};

TEST(MissingReport, NamesRanksThatWereStoppedInTheCallThatAllArrivedAt) {
  std::vector<RankStatus> statuses(2, status(RankState::kInCall, CallKind::kSync, 9));
  EXPECT_THAT(report_missing(statuses, kAwaited).text,
              HasSubstr("all ranks arrived, but messages between them are missing"));
  const StoppedProcess stopped;
  StatusBoard board(SharedMapping::anonymous(StatusBoard::bytes_for(1)), {true});
  board.slot(0).process_id = stopped.id();
  board.slot(0).thread_id = stopped.id();
  EXPECT_EQ(board.read(0).doing, "");
  statuses[1].doing = board.observe(0).doing;
  const MissingReport report = report_missing(statuses, kAwaited);
  EXPECT_FALSE(report.ranks_disagree);
  EXPECT_EQ(report.missing, std::vector<int>{1});
  EXPECT_THAT(report.text,
              HasSubstr("ranks {1} arrived, but do not run:\n  rank 1: waits in sync"));
  EXPECT_THAT(report.text, HasSubstr("(stopped by a signal)"));
}

TEST(MissingReport, NamesRanksOfSilentNodes) {
  std::vector<RankStatus> statuses(1);
  statuses[0].superstep = 3;
  EXPECT_THAT(report_missing(statuses, kAwaited).text,
              HasSubstr("rank 0: no answer from its node, last seen at superstep 3"));
}

}  // namespace
}  // namespace superstep::bsp::internal
