#include "worker/federated/device_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/worker/federated/sized_clients.h"
#include "worker/federated/cohort.h"
#include "worker/federated/round_timing.h"

namespace superstep::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::equal_clients;
using testing::error_text;

constexpr auto kFile = "devices.tsv";

DeviceOptions log_normal(double median, double deviation) {
  return {.speed = DeviceSpeed::kLogNormal,
          .seconds_per_sample = median,
          .speed_deviation = deviation,
          .profiles = nullptr,
          .availability = {.trace = nullptr}};
}

DeviceOptions with_profiles(std::string_view text, std::int64_t num_clients) {
  DeviceOptions options;
  options.speed = DeviceSpeed::kFile;
  options.profiles =
      std::make_shared<const DeviceProfiles>(parse_device_profiles(text, kFile, num_clients));
  return options;
}

AvailabilityOptions with_trace(std::string_view text, std::int64_t num_clients) {
  return {.kind = AvailabilityKind::kTrace,
          .trace = std::make_shared<const AvailabilityTrace>(
              AvailabilityTrace::parse(text, kFile, num_clients))};
}

TEST(DeviceModel, SpeedsAreLogNormalAroundTheirMedian) {
  constexpr std::int64_t kClients = 20000;
  const DeviceModel devices(log_normal(0.02, 0.7), equal_clients(kClients), {});
  double sum = 0.0;
  double squares = 0.0;
  for (std::int64_t client = 0; client < kClients; ++client) {
    const double log = std::log(devices.profile(client).seconds_per_sample / 0.02);
    sum += log;
    squares += log * log;
  }
  // Five deviations of the estimates.
  const double n = kClients;
  EXPECT_NEAR(sum / n, 0.0, 5.0 * 0.7 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n), 0.7, 5.0 * 0.7 / std::sqrt(2.0 * n));
}

TEST(DeviceModel, ADurationIsDownloadComputationAndUpload) {
  const DeviceOptions options = with_profiles(
      "client\tseconds_per_sample\tdownload_bytes_per_second\tupload_bytes_per_second\n"
      "1\t0.5\t100\t50\n0\t0.25\t1e15\t1e15\n",
      2);
  const DeviceModel devices(
      options, std::make_shared<testing::SizedClients>(std::vector<std::int64_t>{8, 3}),
      {.epochs = 2, .download_bytes = 200, .upload_bytes = 400});
  EXPECT_EQ(devices.duration(0), seconds(4));          // 16 visits, transfers below 1 ns
  EXPECT_EQ(devices.duration(1), seconds(2 + 3 + 8));  // 6 visits
  const Fate fate = devices.fate(1, 7, seconds(100));
  EXPECT_EQ(fate, (Fate{Outcome::kReports, seconds(113)}));
}

TEST(DeviceModel, DevicesOfAFileAreDrawnByClient) {
  const DeviceOptions options =
      with_profiles("device\tseconds_per_sample\na\t1\nb\t2\nc\t4\n", 3000);
  const DeviceModel devices(options, equal_clients(3000), {});
  std::vector<int> counts(5, 0);
  for (std::int64_t client = 0; client < 3000; ++client) {
    ++counts[static_cast<std::size_t>(devices.profile(client).seconds_per_sample)];
  }
  for (const int device : {1, 2, 4}) {
    EXPECT_NEAR(counts[static_cast<std::size_t>(device)], 1000.0, 5.0 * std::sqrt(3000.0 * 2 / 9));
  }
}

TEST(DeviceModel, DropsOutWithItsProbabilityAtAnyMoment) {
  DeviceOptions options = log_normal(1.0, 0.0);
  options.dropout = 0.3;
  const DeviceModel devices(options, equal_clients(4), {});
  constexpr int kTimes = 20000;
  double lost = 0.0;
  double moments = 0.0;
  for (int start = 0; start < kTimes; ++start) {
    const Fate fate = devices.fate(2, start, seconds(10));
    if (fate.outcome == Outcome::kDropsOut) {
      lost += 1.0;
      moments += virtual_seconds(fate.at - seconds(10));
    } else {
      EXPECT_EQ(fate, (Fate{Outcome::kReports, seconds(11)}));
    }
  }
  EXPECT_NEAR(lost / kTimes, 0.3, 5.0 * std::sqrt(0.3 * 0.7 / kTimes));
  EXPECT_NEAR(moments / lost, 0.5, 5.0 / std::sqrt(12.0 * lost));
  EXPECT_EQ(devices.fate(2, 5, seconds(0)), devices.fate(2, 5, seconds(0)));
}

TEST(DeviceProfiles, NamesTheLineOfWhatIsWrong) {
  const auto of = [](const std::string& text) {
    return error_text<Error>([&] { parse_device_profiles(text, kFile, 3); });
  };
  EXPECT_NE(of("name\tseconds_per_sample\n").find("line 1: no column 'client' or 'device'"),
            std::string::npos);
  EXPECT_NE(of("device\tspeed\na\t1\n").find("no column 'seconds_per_sample'"), std::string::npos);
  EXPECT_NE(of("device\tseconds_per_sample\na\t0\n").find("line 2: seconds_per_sample: got \"0\""),
            std::string::npos);
  EXPECT_NE(of("device\tseconds_per_sample\na\tnan\n").find("got \"nan\""), std::string::npos);
  EXPECT_NE(of("device\tseconds_per_sample\n").find("no device is listed"), std::string::npos);
  EXPECT_NE(of("client\tseconds_per_sample\n3\t1\n").find("client: got \"3\", expected 0 to 2"),
            std::string::npos);
  EXPECT_NE(of("client\tseconds_per_sample\n1\t1\n1\t2\n").find("line 3: client 1 is given twice"),
            std::string::npos);
  EXPECT_NE(of("client\tseconds_per_sample\n0\t1\n2\t2\n").find("client 1 is missing"),
            std::string::npos);
}

TEST(AvailabilityTrace, NamesTheLineOfWhatIsWrong) {
  const auto of = [](const std::string& text) {
    return error_text<Error>([&] { AvailabilityTrace::parse(text, kFile, 4); });
  };
  const std::string header = "client\tbegin\tend\n";
  EXPECT_NE(of("client\tbegin\n").find("no column 'end'"), std::string::npos);
  EXPECT_NE(of(header + "4\t0\t1\n").find("line 2: client: got \"4\", expected 0 to 3"),
            std::string::npos);
  EXPECT_NE(of(header + "0\t-1\t1\n").find("line 2: begin: got \"-1\""), std::string::npos);
  EXPECT_NE(of(header + "0\t2\t2\n").find("a window ends before it begins: got 2 to 2"),
            std::string::npos);
  EXPECT_NE(of(header + "1\t5\t8\n0\t0\t9\n1\t0\t6\n")
                .find("windows of client 1 overlap: those of lines 4 and 2"),
            std::string::npos);
  EXPECT_NE(of(header).find("no window is listed"), std::string::npos);
}

// Millisecond by millisecond over three periods, against a table of the windows.
TEST(Availability, ATraceIsRepeatedForEver) {
  const AvailabilityOptions options = with_trace(
      "client\tbegin\tend\n0\t0\t0.003\n0\t0.007\t0.010\n1\t0.002\t0.004\n1\t0.004\t0.005\n"
      "3\t0\t0.010\n",
      4);
  const Availability availability(options);
  const std::vector<std::string> there = {"###....###", "..###.....", "..........", "##########"};
  for (std::int64_t client = 0; client < 4; ++client) {
    const auto is_there = [&](int ms) {
      return there[static_cast<std::size_t>(client)][static_cast<std::size_t>(ms % 10)] == '#';
    };
    for (int ms = 0; ms < 30; ++ms) {
      int until = ms;
      int next = ms;
      for (; until < ms + 20 && is_there(until); ++until) {
      }
      for (; next < ms + 20 && !is_there(next); ++next) {
      }
      const VirtualTime now = milliseconds(ms);
      EXPECT_EQ(availability.is_there(client, now), is_there(ms)) << client << " " << ms;
      EXPECT_EQ(availability.until(client, now), client == 3 ? kNever : milliseconds(until));
      EXPECT_EQ(availability.next(client, now), client == 2 ? kNever : milliseconds(next));
    }
  }
}

TEST(Availability, PeriodicClientsAreThereForTheirPart) {
  constexpr std::int64_t kClients = 2000;
  const Availability availability({.kind = AvailabilityKind::kPeriodic,
                                   .period_seconds = 100.0,
                                   .fraction = 0.3,
                                   .trace = nullptr});
  for (const VirtualTime now : {VirtualTime(seconds(0)), VirtualTime(seconds(1234))}) {
    double there = 0.0;
    for (std::int64_t client = 0; client < kClients; ++client) {
      const VirtualTime until = availability.until(client, now);
      const VirtualTime next = availability.next(client, now);
      EXPECT_LE(until, now + seconds(30));
      EXPECT_LE(next, now + seconds(70));
      EXPECT_TRUE(availability.is_there(client, next));
      EXPECT_EQ(availability.until(client, next), until > now ? until : next + seconds(30));
      EXPECT_FALSE(availability.is_there(client, availability.until(client, next)));
      there += until > now ? 1.0 : 0.0;
    }
    EXPECT_NEAR(there / kClients, 0.3, 5.0 * std::sqrt(0.3 * 0.7 / kClients));
  }
}

TEST(Availability, AClientThatGoesAwayIsLost) {
  DeviceOptions options = log_normal(2.0, 0.0);
  options.availability = with_trace("client\tbegin\tend\n0\t0\t10\n1\t0\t5\n", 2);
  const DeviceModel devices(options, equal_clients(2), {});
  EXPECT_EQ(devices.fate(0, 0, seconds(4)), (Fate{Outcome::kReports, seconds(6)}));
  EXPECT_EQ(devices.fate(1, 0, seconds(3)), (Fate{Outcome::kReports, seconds(5)}));
  EXPECT_EQ(devices.fate(1, 0, seconds(4)), (Fate{Outcome::kGoesAway, seconds(5)}));
  EXPECT_EQ(devices.fate(0, 0, seconds(9)), (Fate{Outcome::kReports, seconds(11)}));
  EXPECT_EQ(devices.somebody_there(seconds(7), [](std::int64_t client) { return client == 1; }),
            seconds(10));
}

TEST(Cohort, ConfinedToThoseWhoMayIsFair) {
  const auto clients = equal_clients(40);
  // Three of forty, so that both ways of choosing are used.
  const MayTakePart may = [](std::int64_t client) { return client % 13 == 7; };
  constexpr int kRounds = 6000;
  std::vector<int> counts(40, 0);
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<std::int64_t> cohort =
        select_cohort({.size = 2, .seed = 5}, *clients, round, may);
    ASSERT_EQ(cohort.size(), 2U);
    ASSERT_LT(cohort[0], cohort[1]);
    for (const std::int64_t client : cohort) {
      ASSERT_TRUE(may(client));
      ++counts[static_cast<std::size_t>(client)];
    }
  }
  for (const std::size_t client : {7U, 20U, 33U}) {
    EXPECT_NEAR(counts[client], kRounds * 2.0 / 3.0, 5.0 * std::sqrt(kRounds * 2.0 / 9.0));
  }
  EXPECT_EQ(select_cohort({.size = 5, .seed = 5}, *clients, 0, may),
            (std::vector<std::int64_t>{7, 20, 33}));
  for (const Sampling sampling : {Sampling::kPoisson, Sampling::kWeighted}) {
    for (const std::int64_t client :
         select_cohort({.sampling = sampling, .size = 30, .seed = 5}, *clients, 1, may)) {
      EXPECT_TRUE(may(client)) << name_of(sampling);
    }
  }
}

// Client i takes i + 1 seconds.
DeviceModel stairs(const DeviceOptions& options, std::int64_t num_clients) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t client = 0; client < num_clients; ++client) {
    sizes.push_back(client + 1);
  }
  return {options, std::make_shared<testing::SizedClients>(sizes), {}};
}

TEST(RoundTiming, TheFirstToReportAreUsed) {
  const DeviceModel devices = stairs(log_normal(1.0, 0.0), 6);
  const std::vector<std::int64_t> selected = {0, 2, 3, 5};
  const TimedRound round = time_round({.over_selection = 2.0}, devices, selected, 2, 0, seconds(9));
  EXPECT_EQ(round.used, (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(round.timing.begin, seconds(9));
  EXPECT_EQ(round.timing.end, seconds(12));
  EXPECT_EQ(round.timing.selected, 4);
  EXPECT_EQ(round.timing.late, 2);
  EXPECT_EQ(selection_size({.over_selection = 1.1}, 100, 1000), 110);
  EXPECT_EQ(selection_size({.over_selection = 1.05}, 10, 1000), 11);
  EXPECT_EQ(selection_size({.over_selection = 3.0}, 10, 20), 20);
}

TEST(RoundTiming, WaitsForTheDeadlineOnlyWhenSomebodyIsMissing) {
  const DeviceModel devices = stairs(log_normal(1.0, 0.0), 6);
  const std::vector<std::int64_t> selected = {0, 2, 3, 5};
  TimedRound round = time_round({.deadline_seconds = 3.5}, devices, selected, 4, 0, seconds(0));
  EXPECT_EQ(round.used, (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(round.timing.late, 2);
  EXPECT_EQ(round.timing.end, milliseconds(3500));
  round = time_round({.deadline_seconds = 10.0}, devices, selected, 4, 0, seconds(0));
  EXPECT_EQ(round.used.size(), 4U);
  EXPECT_EQ(round.timing.end, seconds(6));
  // Exactly at the deadline is in time.
  round = time_round({.deadline_seconds = 3.0}, devices, selected, 0, 0, seconds(0));
  EXPECT_EQ(round.used, (std::vector<std::int64_t>{0, 2}));
}

TEST(RoundTiming, CountsEverySelectedClientOnce) {
  DeviceOptions options = log_normal(1.0, 0.6);
  options.dropout = 0.25;
  options.availability = {.kind = AvailabilityKind::kPeriodic,
                          .period_seconds = 30.0,
                          .fraction = 0.7,
                          .trace = nullptr};
  const DeviceModel devices(options, equal_clients(200, 5), {});
  std::vector<std::int64_t> selected;
  for (std::int64_t client = 0; client < 200; client += 3) {
    selected.push_back(client);
  }
  RoundTiming all;
  for (int round = 0; round < 50; ++round) {
    const TimedRound timed = time_round({.over_selection = 1.5, .deadline_seconds = 6.0}, devices,
                                        selected, 40, round, seconds(round * 7));
    const RoundTiming& timing = timed.timing;
    EXPECT_LE(timed.used.size(), 40U);
    EXPECT_TRUE(std::is_sorted(timed.used.begin(), timed.used.end()));
    EXPECT_EQ(timing.selected, static_cast<std::int64_t>(timed.used.size()) + timing.late +
                                   timing.dropped + timing.gone);
    EXPECT_LE(timing.end, timing.begin + seconds(6));
    all.late += timing.late;
    all.dropped += timing.dropped;
    all.gone += timing.gone;
  }
  EXPECT_GT(all.late, 0);
  EXPECT_GT(all.dropped, 0);
  EXPECT_GT(all.gone, 0);
}

}  // namespace
}  // namespace superstep::worker
