// The parts of `superstep launch` that need no job: decisions, hosts, records, the watch. What
// mpirun prints: launch_diagnosis_test.cpp.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/error.h"
#include "cluster/launch_hosts.h"
#include "cluster/launch_network.h"
#include "cluster/launch_policy.h"
#include "cluster/launch_record.h"
#include "cluster/launch_watch.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/error_text.h"

namespace superstep::cluster {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

constexpr int kKilled = 137;

AttemptResult killed_at(std::int64_t checkpoint) {
  return {.exit_code = kKilled, .run_on_disk = true, .checkpoint_superstep = checkpoint};
}

Decision first_decision(const AttemptResult& result) {
  return RestartPolicy({}).after(result);
}

TEST(RestartPolicy, BelievesZeroOnlyWhenEveryRankIsComplete) {
  EXPECT_EQ(first_decision({.exit_code = 0, .ranks = RankVerdict::kFinished}).verdict,
            Verdict::kDone);
  EXPECT_EQ(first_decision({.exit_code = 0, .ranks = RankVerdict::kIncomplete}).verdict,
            Verdict::kRestart);
  const Decision differ = first_decision({.exit_code = 0, .ranks = RankVerdict::kDisagree});
  EXPECT_EQ(differ.verdict, Verdict::kGiveUp);
  EXPECT_EQ(differ.exit_code, 5);
}

TEST(RestartPolicy, ACompleteRecordDoesNotOutweighAFailureOfMpirun) {
  EXPECT_EQ(first_decision({.exit_code = kKilled, .ranks = RankVerdict::kFinished}).verdict,
            Verdict::kRestart);
}

TEST(RestartPolicy, EndsThatWouldComeBackAreNotTriedAgain) {
  for (const int code : {2, 3, 4, 5, 6}) {
    const Decision decision = first_decision({.exit_code = code, .run_on_disk = true});
    EXPECT_EQ(decision.verdict, Verdict::kGiveUp) << code;
    EXPECT_EQ(decision.exit_code, code);
  }
}

TEST(RestartPolicy, FaultsAreTriedAgain) {
  for (const int code : {7, 75, 110, 134, kKilled, 205}) {
    const Decision decision = first_decision({.exit_code = code, .run_on_disk = true});
    EXPECT_EQ(decision.verdict, Verdict::kRestart) << code;
    EXPECT_EQ(decision.delay, milliseconds(0)) << code;
  }
}

TEST(RestartPolicy, AJobThatNeverStartedIsNotTriedAgain) {
  EXPECT_EQ(first_decision({.exit_code = 1, .run_on_disk = false}).verdict, Verdict::kGiveUp);
  EXPECT_EQ(first_decision({.exit_code = 1, .run_on_disk = true}).verdict, Verdict::kRestart);
}

TEST(RestartPolicy, AStopThatWasAskedForIsResumableAndNotRestarted) {
  const Decision signal = first_decision({.exit_code = kKilled, .stop_requested = true});
  EXPECT_EQ(signal.verdict, Verdict::kGiveUp);
  EXPECT_EQ(signal.exit_code, 75);
  const Decision hung = first_decision(
      {.exit_code = 75, .ranks = RankVerdict::kStopped, .hung = true, .run_on_disk = true});
  EXPECT_EQ(hung.verdict, Verdict::kRestart);
  const Decision wall_time = first_decision({.exit_code = 75, .ranks = RankVerdict::kStopped});
  EXPECT_EQ(wall_time.verdict, Verdict::kGiveUp);
  EXPECT_EQ(wall_time.exit_code, 75);
}

TEST(RestartPolicy, AFailureThatCameBeforeAStopIsNotHidden) {
  for (const int code : {2, 3, 4, 5, 6, 7}) {
    const Decision decision = first_decision({.exit_code = code, .stop_requested = true});
    EXPECT_EQ(decision.verdict, Verdict::kGiveUp) << code;
    EXPECT_EQ(decision.exit_code, code);
  }
  const Decision differ =
      first_decision({.exit_code = 75, .ranks = RankVerdict::kDisagree, .stop_requested = true});
  EXPECT_EQ(differ.exit_code, 5);
}

TEST(RestartPolicy, AStopThatWasNotRecordedNamesTheEndAndTheLastCheckpoint) {
  AttemptResult result = killed_at(40);
  result.stop_requested = true;
  const Decision killed = first_decision(result);
  EXPECT_EQ(killed.exit_code, 75);
  EXPECT_THAT(killed.reason, HasSubstr("exit code 137"));
  EXPECT_THAT(killed.reason, HasSubstr("the last checkpoint is that of superstep 40"));
  result.checkpoint_superstep = -1;
  EXPECT_THAT(first_decision(result).reason, HasSubstr("there is no checkpoint"));
  const Decision whole =
      first_decision({.exit_code = 75, .ranks = RankVerdict::kStopped, .stop_requested = true});
  EXPECT_EQ(whole.reason, "stopped as asked");
}

TEST(RestartPolicy, AStopThatCameAfterTheLastSuperstepIsDone) {
  EXPECT_EQ(
      first_decision({.exit_code = 0, .ranks = RankVerdict::kFinished, .stop_requested = true})
          .verdict,
      Verdict::kDone);
}

TEST(RestartPolicy, TwoRestartsWithoutANewerCheckpointEndIt) {
  RestartPolicy policy({});
  EXPECT_EQ(policy.after(killed_at(40)).verdict, Verdict::kRestart);
  EXPECT_EQ(policy.after(killed_at(40)).verdict, Verdict::kRestart);
  const Decision last = policy.after(killed_at(40));
  EXPECT_EQ(last.verdict, Verdict::kGiveUp);
  EXPECT_EQ(last.exit_code, kKilled);
  EXPECT_THAT(last.reason, HasSubstr("no newer checkpoint than superstep 40"));
}

TEST(RestartPolicy, ProgressStartsTheCountAgain) {
  RestartPolicy policy({});
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(policy.after(killed_at(i / 2)).verdict, Verdict::kRestart) << i;
  }
}

TEST(RestartPolicy, RestartsAreLimited) {
  RestartPolicy policy({.max_restarts = 3});
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(policy.after(killed_at(i)).verdict, Verdict::kRestart);
  }
  const Decision last = policy.after(killed_at(3));
  EXPECT_EQ(last.verdict, Verdict::kGiveUp);
  EXPECT_THAT(last.reason, HasSubstr("restarted 3 times"));
}

TEST(RestartPolicy, WithoutProgressTheNextRestartWaits) {
  RestartPolicy policy({.max_restarts = 9, .first_delay = milliseconds(700)});
  EXPECT_EQ(policy.after(killed_at(5)).delay, milliseconds(0));
  EXPECT_EQ(policy.after(killed_at(5)).delay, milliseconds(700));
}

AttemptResult ended_with(int exit_code, std::int64_t checkpoint) {
  return {.exit_code = exit_code, .run_on_disk = true, .checkpoint_superstep = checkpoint};
}

TEST(RestartPolicy, WhatARestartCannotReadPasses) {
  for (const int code : {2, 3, 4}) {
    RestartPolicy policy({});
    ASSERT_EQ(policy.after(killed_at(5)).verdict, Verdict::kRestart);
    EXPECT_EQ(policy.after(ended_with(code, 5)).verdict, Verdict::kRestart) << code;
    const Decision last = policy.after(ended_with(code, 5));
    EXPECT_EQ(last.verdict, Verdict::kGiveUp) << code;
    EXPECT_EQ(last.exit_code, code);
  }
  for (const int code : {5, 6}) {
    RestartPolicy policy({});
    ASSERT_EQ(policy.after(killed_at(5)).verdict, Verdict::kRestart);
    EXPECT_EQ(policy.after(ended_with(code, 9)).verdict, Verdict::kGiveUp) << code;
  }
}

TEST(RestartPolicy, WhatCannotBeReadAfterANewCheckpointPasses) {
  for (const int code : {3, 4}) {
    EXPECT_EQ(first_decision(ended_with(code, 0)).verdict, Verdict::kRestart) << code;
    RestartPolicy resumed({});
    resumed.continue_from(40);
    EXPECT_EQ(resumed.after(ended_with(code, 40)).verdict, Verdict::kGiveUp) << code;
    RestartPolicy moved({});
    moved.continue_from(40);
    EXPECT_EQ(moved.after(ended_with(code, 44)).verdict, Verdict::kRestart) << code;
  }
}

TEST(RestartPolicy, ExitCodesAreExplainedInOneLine) {
  EXPECT_THAT(explain_exit_code(kKilled), HasSubstr("signal 9 (Killed)"));
  EXPECT_THAT(explain_exit_code(205), HasSubstr("lost a node"));
  EXPECT_THAT(explain_exit_code(110), HasSubstr("--timeout"));
  for (int code = 0; code < 256; ++code) {
    EXPECT_EQ(explain_exit_code(code).find('\n'), std::string::npos);
    EXPECT_THAT(explain_exit_code(code), HasSubstr(std::to_string(code)));
  }
}

HostPlan plan_of(const std::vector<std::string>& options) {
  return HostPlan::from_options(options);
}

std::string message_of(const std::vector<std::string>& options) {
  return error_text<InvalidArgument>([&] { plan_of(options); });
}

TEST(HostPlan, OptionsPassThrough) {
  EXPECT_THAT(plan_of({"--oversubscribe", "-np", "4", "--mca", "btl", "tcp,self"}).options("x"),
              ElementsAre("-n", "4", "--oversubscribe", "--mca", "btl", "tcp,self"));
}

TEST(HostPlan, AHostNamedTwiceIsLeftOutAndRanksFitTheRest) {
  HostPlan plan = plan_of({"-n", "5", "--host", "a:2,b:2,c"});
  EXPECT_FALSE(plan.blame("b"));
  EXPECT_THAT(plan.options("x"), ElementsAre("-n", "5", "--host", "a:2,b:2,c"));
  EXPECT_TRUE(plan.blame("b"));
  EXPECT_THAT(plan.options("x"), ElementsAre("-n", "3", "--host", "a:2,c"));
}

TEST(HostPlan, TheLastHostAndUnknownHostsStay) {
  HostPlan plan = plan_of({"--host", "a:2,b:2"});
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(plan.blame("stranger"));
  }
  plan.blame("a");
  EXPECT_TRUE(plan.blame("a"));
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(plan.blame("b"));
  }
  EXPECT_THAT(plan.options("x"), ElementsAre("--host", "b:2"));
}

TEST(HostPlan, AHostIsFoundByTheNamesThatOthersGiveIt) {
  const HostPlan plan =
      plan_of({"--host", "node-a.one,node-a.two,node-b.one,c,10.1.0.4,10.1.0.44"});
  const auto found = [&](const std::string& name,
                         const std::vector<std::uint32_t>& addresses = {}) {
    return plan.find(name, addresses).value_or("none");
  };
  EXPECT_EQ(found("node-b.one"), "node-b.one");
  EXPECT_EQ(found("node-b"), "node-b.one");
  EXPECT_EQ(found("node-b.two"), "none");
  EXPECT_EQ(found("node-a.two"), "node-a.two");
  EXPECT_EQ(found("c.one"), "c");
  EXPECT_EQ(found("10.1.0.4"), "10.1.0.4");
  EXPECT_EQ(found("10"), "none");
  EXPECT_EQ(found("node-d"), "none");
  EXPECT_EQ(found("node-d", {0xAC110001U, 0x0A010004U}), "10.1.0.4");
  EXPECT_EQ(found("node-d", {0xAC110001U}), "none");
}

TEST(HostPlan, HostsWithoutSlotsShareTheProcesses) {
  const testing::TemporaryDirectory directory;
  const std::string file = (directory.path() / "hosts").string();
  std::ofstream(file) << "a\nb\nc slots=2\n";
  HostPlan plan = plan_of({"--hostfile", file, "-n", "8"});
  plan.blame("b");
  EXPECT_EQ(plan.num_processes(), 8);
  ASSERT_TRUE(plan.blame("b"));
  EXPECT_EQ(plan.num_processes(), 5);
  plan.blame("a");
  ASSERT_TRUE(plan.blame("a"));
  EXPECT_EQ(plan.num_processes(), 2) << "the slots of c";
}

TEST(HostPlan, MoreSlotsThanFitAnIntegerAreAsManyAsFit) {
  std::string hosts = "bad,a:1";
  for (int i = 0; i < 2049; ++i) {
    hosts += ",a:1048576";
  }
  HostPlan plan = plan_of({"-n", "5", "--host", hosts});
  plan.blame("bad");
  ASSERT_TRUE(plan.blame("bad"));
  EXPECT_EQ(plan.num_processes(), 5);
}

TEST(HostPlan, AHostfileIsRewritten) {
  const testing::TemporaryDirectory directory;
  const std::string file = (directory.path() / "hosts").string();
  std::ofstream(file) << "# cluster\na slots=2\r\n\nb slots=3 max_slots=4 # b\nc slots=1\n";
  HostPlan plan = plan_of({"--hostfile", file, "-n", "6"});
  EXPECT_THAT(plan.options("x"), ElementsAre("-n", "6", "--hostfile", file));
  plan.blame("b");
  EXPECT_TRUE(plan.blame("b"));
  const std::filesystem::path next = directory.path() / "next";
  EXPECT_THAT(plan.options(next), ElementsAre("-n", "3", "--hostfile", next.string()));
  const std::vector<Host> hosts = read_hostfile(next);
  ASSERT_EQ(hosts.size(), 2U);
  EXPECT_EQ(hosts[0].name, "a");
  EXPECT_EQ(hosts[0].slots, 2);
  EXPECT_EQ(hosts[1].name, "c");
}

TEST(HostPlan, BadHostfilesAreRefusedWithTheLine) {
  const testing::TemporaryDirectory directory;
  const std::string file = (directory.path() / "hosts").string();
  const auto refusal = [&](const std::string& text) {
    std::ofstream(file) << text;
    return message_of({"--hostfile", file});
  };
  EXPECT_THAT(refusal(""), HasSubstr("no host in it"));
  EXPECT_THAT(refusal("# only this\n\n"), HasSubstr("no host in it"));
  EXPECT_THAT(refusal("a\nb slots=0\n"), HasSubstr("hosts:2: slots: got \"0\""));
  EXPECT_THAT(refusal("b slots=-1\n"), HasSubstr("got \"-1\""));
  EXPECT_THAT(refusal("b slots=abc\n"), HasSubstr("got \"abc\""));
  EXPECT_THAT(refusal("b slots=99999999999\n"), HasSubstr("got \"99999999999\""));
  EXPECT_THAT(refusal("b slots=4 max_slots=2\n"), HasSubstr("max_slots below slots"));
  EXPECT_THAT(refusal("b slot5\n"), HasSubstr("got \"slot5\""));
  EXPECT_THAT(refusal("slots=4\n"), HasSubstr("expected the name of a host first"));
  EXPECT_THAT(refusal("a\n\v\n"), HasSubstr("hosts:2: got \"\", expected the name of a host"));
  EXPECT_THAT(message_of({"--hostfile", "/nonexistent"}), HasSubstr("no such file"));
}

TEST(HostPlan, WhatCannotBeSupervisedIsRefused) {
  EXPECT_THAT(message_of({"--enable-recovery"}), HasSubstr("a dead rank goes unnoticed"));
  EXPECT_THAT(message_of({"--mca", "orte_enable_recovery", "1"}),
              HasSubstr("orte_enable_recovery cannot be used"));
  EXPECT_THAT(message_of({"-n", "1", "a", ":", "-n", "1", "b"}), HasSubstr("one program"));
  EXPECT_THAT(message_of({"--report-uri", "-"}), HasSubstr("--report-uri"));
  EXPECT_THAT(message_of({"-n"}), HasSubstr("-n needs a value"));
  EXPECT_THAT(message_of({"-n", "0"}), HasSubstr("got \"0\""));
  EXPECT_THAT(message_of({"--host", "a", "--host", "b"}), HasSubstr("named twice"));
  EXPECT_THAT(message_of({"--host", "a,:2"}), HasSubstr("empty name"));
}

constexpr std::uint32_t ip(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  return a << 24U | b << 16U | c << 8U | d;
}

TEST(LaunchNetwork, IsTheNarrowestThatHoldsAllOtherHosts) {
  const std::vector<Network> networks = {
      {.address = ip(127, 0, 0, 1), .prefix = 8, .loopback = true},
      {.address = ip(172, 17, 0, 1), .prefix = 16},
      {.address = ip(10, 1, 2, 3), .prefix = 8},
      {.address = ip(10, 1, 2, 3), .prefix = 16}};
  const auto text = [&](const std::vector<std::uint32_t>& addresses) {
    const std::optional<Network> network = common_network(addresses, networks);
    return network ? network->to_text() : std::string("none");
  };
  EXPECT_EQ(text({ip(10, 1, 2, 3), ip(10, 1, 9, 9)}), "10.1.0.0/16");
  EXPECT_EQ(text({ip(10, 1, 9, 9), ip(10, 2, 9, 9)}), "10.0.0.0/8");
  EXPECT_EQ(text({ip(127, 0, 0, 1), ip(172, 17, 0, 2)}), "172.17.0.0/16");
  EXPECT_EQ(text({ip(10, 1, 9, 9), ip(172, 17, 0, 2)}), "none");
  EXPECT_EQ(text({ip(192, 168, 0, 1)}), "none");
  EXPECT_EQ(text({ip(127, 0, 1, 1), ip(10, 1, 2, 3)}), "none");  // this machine alone
  EXPECT_EQ(text({}), "none");
}

TEST(LaunchNetwork, KnowsThisMachine) {
  const std::optional<std::vector<std::uint32_t>> addresses =
      addresses_of(std::vector<std::string>{"127.0.0.1"});
  ASSERT_TRUE(addresses);
  EXPECT_EQ(addresses->front(), ip(127, 0, 0, 1));
  EXPECT_FALSE(common_network(*addresses, local_networks()));
}

class LaunchRecord : public ::testing::Test {
 protected:
  RankOutcome outcome(int rank, const std::string& hash = "xxh3:1") const {
    return {.launch = launch_,
            .rank = rank,
            .num_ranks = 3,
            .reason = "finished",
            .superstep = 12,
            .parameters_hash = hash,
            .state_hash = "xxh3:2"};
  }
  JointOutcome joint() const { return read_outcomes(path_, launch_); }

  testing::TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_.path() / "launch";
  LaunchContext launch_{.id = "a", .attempt = 2};

  void SetUp() override { make_launch_directory(path_); }
};

TEST_F(LaunchRecord, AllRanksWithOneHashAreComplete) {
  for (const int rank : {2, 0, 1}) {
    EXPECT_EQ(joint().verdict, RankVerdict::kIncomplete);
    write_outcome(path_, outcome(rank));
  }
  EXPECT_EQ(joint().verdict, RankVerdict::kFinished);
  EXPECT_EQ(joint().first.superstep, 12);
}

TEST_F(LaunchRecord, MissingRanksAreNamed) {
  EXPECT_EQ(joint().what, "no rank recorded its end");
  write_outcome(path_, outcome(1));
  EXPECT_EQ(joint().what, "2 of 3 ranks recorded no end: 0, 2");
}

TEST_F(LaunchRecord, AnotherHashIsNoSuccess) {
  for (const int rank : {0, 1, 2}) {
    write_outcome(path_, outcome(rank, rank == 1 ? "xxh3:9" : "xxh3:1"));
  }
  EXPECT_EQ(joint().verdict, RankVerdict::kDisagree);
  EXPECT_THAT(joint().what, HasSubstr("rank 1 ended with xxh3:9"));
}

TEST_F(LaunchRecord, ANodeIsKnownByItsAddresses) {
  write_node(path_, {.launch = launch_, .rank = 1, .host = "b", .addresses = {1, 0x0A010004U}});
  write_node(path_, {.launch = launch_, .rank = 3, .host = "b", .addresses = {7}});
  write_node(path_, {.launch = launch_, .rank = 4, .host = "c", .addresses = {8}});
  write_node(path_, {.launch = {.id = "old"}, .rank = 5, .host = "b", .addresses = {9}});
  std::ofstream(path_ / "node-6.json") << R"({"launch":"a","attempt":2,"rank":6,"host":"b")";
  EXPECT_THAT(read_addresses(path_, launch_, "b"),
              ::testing::UnorderedElementsAre(1U, 0x0A010004U, 7U));
  EXPECT_EQ(joint().num_recorded, 0);
  remove_records(path_);
  EXPECT_TRUE(read_addresses(path_, launch_, "b").empty());
}

TEST_F(LaunchRecord, OnlyRecordsAreRemoved) {
  write_outcome(path_, outcome(1));
  std::ofstream(path_ / "status-00001.json") << "{}";
  std::ofstream(path_ / "rank-notes.txt") << "mine";
  remove_records(path_);
  EXPECT_EQ(joint().num_recorded, 0);
  EXPECT_FALSE(std::filesystem::exists(path_ / "status-00001.json"));
  EXPECT_TRUE(std::filesystem::exists(path_ / "rank-notes.txt"));
  remove_records("/nonexistent");
}

void write_status(const std::filesystem::path& directory, int rank, int superstep, int calls,
                  std::int64_t time_ms = 5) {
  std::ofstream(directory / ("status-" + std::to_string(rank) + ".json"))
      << R"({"time_ms":)" << time_ms << R"(,"host":"node-)" << rank
      << R"(","process":7,"ranks":[{"rank":)" << rank << R"(,"superstep":)" << superstep
      << R"(,"calls":)" << calls << R"(,"state":"computing","phase":"compute","site":"a.cpp:1"}]})";
}

TEST_F(LaunchRecord, TheWatchNamesTheRankThatIsBehind) {
  write_status(path_, 0, 12, 345);
  write_status(path_, 1, 12, 344);
  write_status(path_, 2, 12, 345);
  std::ofstream(path_ / "status-9.json") << "{\"time_ms\": 1";
  HangWatch watch(path_, milliseconds(50));
  EXPECT_FALSE(watch.look());
  std::this_thread::sleep_for(milliseconds(60));
  const std::optional<WatchedRank> culprit = watch.look();
  ASSERT_TRUE(culprit);
  EXPECT_EQ(culprit->to_text(),
            "rank 1 on node-1: computing in superstep 12, phase \"compute\", 344 calls, last at "
            "a.cpp:1");
}

TEST_F(LaunchRecord, TheWatchIsQuietWhileAnyRankMoves) {
  HangWatch watch(path_, milliseconds(50));
  for (int calls = 0; calls < 5; ++calls) {
    write_status(path_, 0, 1, calls);
    EXPECT_FALSE(watch.look());
    std::this_thread::sleep_for(milliseconds(30));
  }
}

TEST(HangWatch, FilesThatDoNotComeAreNoHang) {
  const std::vector<WatchedRank> ranks = {
      {.rank = 1, .host = "b", .calls = 3, .state = "waiting", .phase = {}, .site = {}}};
  std::atomic<bool> hangs = false;
  HangWatch watch(
      [&] {
        while (hangs.load()) {
          std::this_thread::sleep_for(milliseconds(1));
        }
        return ranks;
      },
      milliseconds(300));
  EXPECT_FALSE(watch.look());
  EXPECT_EQ(watch.waits().count(), 0);
  hangs = true;
  const Stopwatch stopwatch;
  while (stopwatch.elapsed() < milliseconds(700)) {
    EXPECT_FALSE(watch.look());
  }
  EXPECT_GT(watch.waits(), milliseconds(300));
  hangs = false;
  EXPECT_FALSE(watch.look()) << "the ranks may not have been able to write";
  EXPECT_EQ(watch.waits().count(), 0);
  std::this_thread::sleep_for(milliseconds(310));
  ASSERT_TRUE(watch.look());
}

TEST_F(LaunchRecord, OfEqualRanksTheOneWhoseFileIsOldestIsNamed) {
  write_status(path_, 0, 3, 9, 5000);
  write_status(path_, 1, 3, 9, 1000);
  const std::optional<WatchedRank> culprit = culprit_of(read_statuses(path_));
  ASSERT_TRUE(culprit);
  EXPECT_EQ(culprit->rank, 1);
  EXPECT_FALSE(culprit_of({}));
}

TEST_F(LaunchRecord, RecordsOfOtherAttemptsAndDamagedOnesDoNotCount) {
  for (const int rank : {0, 1, 2}) {
    write_outcome(path_, outcome(rank));
  }
  EXPECT_EQ(read_outcomes(path_, {.id = "a", .attempt = 3}).verdict, RankVerdict::kIncomplete);
  EXPECT_EQ(read_outcomes(path_, {.id = "b", .attempt = 2}).verdict, RankVerdict::kIncomplete);
  std::ofstream(path_ / "rank-00001.json") << "{\"launch\": \"a\", \"att";
  EXPECT_EQ(joint().what, "1 of 3 ranks recorded no end: 1");
  write_outcome(path_, outcome(3));
  EXPECT_EQ(joint().what, "1 of 3 ranks recorded no end: 1") << "there is no rank 3 of 3";
}

TEST_F(LaunchRecord, ADamagedNumberOfRanksCostsNothing) {
  RankOutcome damaged = outcome(1);
  damaged.num_ranks = std::numeric_limits<int>::max();
  write_outcome(path_, damaged);
  EXPECT_EQ(joint().what,
            "2147483646 of 2147483647 ranks recorded no end: 0, 2, 3, 4, 5, 6, 7, 8, ...");
}

TEST(LaunchStatus, OneRankThatIsDamagedSpoilsItsFile) {
  const std::string good =
      R"({"time_ms":5,"host":"b","ranks":[{"rank":1,"superstep":2,"calls":3,"state":"computing",)"
      R"("phase":"p","site":"s"},{"rank":2,"superstep":2,"calls":3,"state":"","phase":"","site":""}]})";
  ASSERT_EQ(parse_status(good).size(), 2U);
  EXPECT_EQ(parse_status(good)[1].rank, 2);
  for (const auto& [from, to] :
       {std::pair("\"rank\":2", "\"rank\":1e300"), std::pair("\"rank\":2", "\"rank\":-2"),
        std::pair("\"state\":\"\"", "\"state\":7"),
        std::pair("\"time_ms\":5", "\"time_ms\":null")}) {
    const std::size_t at = good.find(from);
    ASSERT_NE(at, std::string::npos);
    EXPECT_TRUE(parse_status(std::string(good).replace(at, std::string(from).size(), to)).empty())
        << to;
  }
}

}  // namespace
}  // namespace superstep::cluster
