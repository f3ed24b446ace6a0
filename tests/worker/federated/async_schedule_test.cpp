#include "worker/federated/async_schedule.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"
#include "tests/worker/federated/sized_clients.h"
#include "worker/federated/cohort.h"

namespace superstep::worker {
namespace {

using std::chrono::seconds;
using testing::equal_clients;

constexpr std::uint64_t kSeed = 11;

// Who reported, from which version.
using Reports = std::vector<std::pair<std::int64_t, std::int64_t>>;

Reports reports_in(const ServerUpdate& update) {
  Reports reports;
  for (const Flight& flight : update.reports) {
    reports.emplace_back(flight.client, flight.version);
  }
  return reports;
}

AsynchronyOptions fedbuff(std::int64_t concurrency, std::int64_t buffer) {
  return {.kind = Asynchrony::kFedBuff, .concurrency = concurrency, .buffer = buffer};
}

// Client i takes i + 1 seconds.
DeviceOptions stairs(std::int64_t num_clients) {
  std::string text = "client\tseconds_per_sample\n";
  for (std::int64_t client = 0; client < num_clients; ++client) {
    text += std::to_string(client) + "\t" + std::to_string(client + 1) + "\n";
  }
  DeviceOptions options;
  options.speed = DeviceSpeed::kFile;
  options.profiles = std::make_shared<const DeviceProfiles>(
      parse_device_profiles(text, "devices.tsv", num_clients));
  return options;
}

// Worked out by hand: three clients of 1, 2 and 3 seconds, all in training, two reports an update.
TEST(AsyncSchedule, FollowsAnExampleWorkedOutByHand) {
  const DeviceModel devices(stairs(3), equal_clients(3), {});
  AsyncSchedule schedule(fedbuff(3, 2), devices, kSeed);
  ServerUpdate update = schedule.next();
  EXPECT_EQ(reports_in(update), (Reports{{0, 0}, {0, 0}}));
  EXPECT_EQ(update.reports[1].repetition, 1);
  EXPECT_EQ(update.end, seconds(2));
  EXPECT_EQ(schedule.versions_in_training(), (std::vector<std::int64_t>{0}));
  update = schedule.next();  // client 1 reported at 2 s too, after client 0 and the update
  EXPECT_EQ(reports_in(update), (Reports{{1, 0}, {0, 1}}));
  EXPECT_EQ(update.end, seconds(3));
  EXPECT_EQ(schedule.versions_in_training(), (std::vector<std::int64_t>{0, 1}));
  update = schedule.next();
  EXPECT_EQ(reports_in(update), (Reports{{2, 0}, {0, 2}}));
  EXPECT_EQ(update.end, seconds(4));
  update = schedule.next();
  EXPECT_EQ(reports_in(update), (Reports{{1, 1}, {0, 3}}));
  EXPECT_EQ(update.begin, seconds(4));
  EXPECT_EQ(update.end, seconds(5));
}

TEST(AsyncSchedule, ClientsOfOneSpeedMakeUpRounds) {
  DeviceOptions options;
  options.speed = DeviceSpeed::kLogNormal;
  options.speed_deviation = 0.0;
  const auto clients = equal_clients(30);
  const DeviceModel devices(options, clients, {});
  AsyncSchedule schedule(fedbuff(7, 7), devices, kSeed);
  for (std::int64_t round = 0; round < 50; ++round) {
    Reports expected;
    for (const std::int64_t client : select_cohort({.size = 7, .seed = kSeed}, *clients, round)) {
      expected.emplace_back(client, round);
    }
    EXPECT_EQ(reports_in(schedule.next()), expected) << round;
    EXPECT_TRUE(schedule.versions_in_training().empty());
  }
}

// The same rules, written down without any data structure: a place per client, searched linearly.
class NaiveSimulation {
 public:
  NaiveSimulation(const AsynchronyOptions& options, const DeviceModel& devices)
      : options_(options),
        devices_(devices),
        clients_(static_cast<std::size_t>(devices.num_clients())) {}

  std::vector<ServerUpdate> run(std::size_t updates) {
    while (done_.size() < updates) {
      finish_what_ends_now();
      start();
      VirtualTime next = kNever;
      for (std::int64_t client = 0; client < devices_.num_clients(); ++client) {
        const Place& place = clients_[static_cast<std::size_t>(client)];
        if (place.is_training) {
          next = std::min(next, place.flight.fate.at);
        } else if (num_training() < options_.concurrency) {
          next = std::min(next, devices_.availability().next(client, now_));
        }
      }
      now_ = next;
    }
    done_.resize(updates);
    return done_;
  }

 private:
  struct Place {
    bool is_training = false;
    Flight flight;
    std::int64_t starts_from_version = 0;
  };

  std::int64_t num_training() const {
    return std::count_if(clients_.begin(), clients_.end(),
                         [](const Place& place) { return place.is_training; });
  }

  void finish_what_ends_now() {
    for (Place& place : clients_) {
      if (!place.is_training || place.flight.fate.at != now_) {
        continue;
      }
      place.is_training = false;
      const bool stale =
          options_.max_staleness > 0 && version_ - place.flight.version > options_.max_staleness;
      if (place.flight.fate.outcome == Outcome::kDropsOut) {
        ++current_.dropped;
      } else if (place.flight.fate.outcome == Outcome::kGoesAway) {
        ++current_.gone;
      } else if (stale) {
        ++current_.stale;
      } else {
        current_.reports.push_back(place.flight);
      }
      if (static_cast<std::int64_t>(current_.reports.size()) == reports_per_update(options_)) {
        current_.end = now_;
        done_.push_back(current_);
        current_ = {};
        current_.begin = now_;
        ++version_;
        for (Place& any : clients_) {
          any.starts_from_version = 0;
        }
      }
    }
  }

  void start() {
    const std::int64_t places = options_.concurrency - num_training();
    if (places == 0) {
      return;
    }
    MayTakePart may = [&](std::int64_t client) {
      return !clients_[static_cast<std::size_t>(client)].is_training &&
             devices_.availability().is_there(client, now_);
    };
    if (num_training() == 0 && devices_.availability().is_always()) {
      may = {};
    }
    const PhiloxStream stream(kSeed, stream_id("federated cohort"), draws_++);
    for (const std::int64_t client : choose_clients(places, devices_.num_clients(), stream, may)) {
      Place& place = clients_[static_cast<std::size_t>(client)];
      place.is_training = true;
      place.flight = {.client = client,
                      .version = version_,
                      .repetition = place.starts_from_version++,
                      .fate = devices_.fate(client, starts_++, now_)};
    }
  }

  AsynchronyOptions options_;
  const DeviceModel& devices_;
  std::vector<Place> clients_;
  VirtualTime now_{};
  std::int64_t version_ = 0;
  std::int64_t draws_ = 0;
  std::int64_t starts_ = 0;
  ServerUpdate current_;
  std::vector<ServerUpdate> done_;
};

struct Scene {
  std::string name;
  std::int64_t num_clients;
  AsynchronyOptions options;
  DeviceOptions devices;
};

std::vector<Scene> scenes() {
  DeviceOptions plain;
  plain.speed = DeviceSpeed::kLogNormal;
  plain.seconds_per_sample = 1.0;
  plain.speed_deviation = 0.8;
  DeviceOptions lossy = plain;
  lossy.dropout = 0.3;
  DeviceOptions periodic = lossy;
  periodic.availability = {.kind = AvailabilityKind::kPeriodic,
                           .period_seconds = 40.0,
                           .fraction = 0.2,
                           .trace = nullptr};
  AsynchronyOptions limited = fedbuff(12, 2);
  limited.max_staleness = 3;
  AsynchronyOptions fedasync{.kind = Asynchrony::kFedAsync, .concurrency = 5};
  return {{"plain", 40, fedbuff(10, 4), plain},      {"everybody", 9, fedbuff(9, 3), plain},
          {"ties", 6, fedbuff(4, 3), stairs(6)},     {"lossy", 40, fedbuff(10, 4), lossy},
          {"periodic", 25, fedbuff(8, 3), periodic}, {"limited", 40, limited, plain},
          {"fedasync", 30, fedasync, lossy}};
}

TEST(AsyncSchedule, IsThatOfANaiveSimulation) {
  constexpr std::size_t kUpdates = 150;
  for (const Scene& scene : scenes()) {
    const DeviceModel devices(scene.devices, equal_clients(scene.num_clients), {});
    AsyncSchedule schedule(scene.options, devices, kSeed);
    ServerUpdate lost;
    std::size_t most_versions = 0;
    for (const ServerUpdate& expected : NaiveSimulation(scene.options, devices).run(kUpdates)) {
      const ServerUpdate update = schedule.next();
      ASSERT_EQ(update.reports, expected.reports) << scene.name;
      ASSERT_EQ(update.begin, expected.begin) << scene.name;
      ASSERT_EQ(update.end, expected.end) << scene.name;
      ASSERT_EQ(update.dropped, expected.dropped) << scene.name;
      ASSERT_EQ(update.gone, expected.gone) << scene.name;
      ASSERT_EQ(update.stale, expected.stale) << scene.name;
      lost.dropped += update.dropped;
      lost.gone += update.gone;
      lost.stale += update.stale;
      most_versions = std::max(most_versions, schedule.versions_in_training().size());
    }
    EXPECT_EQ(lost.dropped > 0, scene.devices.dropout > 0.0) << scene.name;
    EXPECT_EQ(lost.gone > 0, scene.name == "periodic");
    EXPECT_EQ(lost.stale > 0, scene.name == "limited");
    const std::int64_t bound =
        scene.options.max_staleness > 0 ? scene.options.max_staleness : scene.options.concurrency;
    EXPECT_LE(most_versions, static_cast<std::size_t>(bound)) << scene.name;
    EXPECT_GT(most_versions, 0U) << scene.name;
  }
}

TEST(AsyncSchedule, GoesOnFromItsTextInTheMiddleOfFlights) {
  for (const Scene& scene : scenes()) {
    const DeviceModel devices(scene.devices, equal_clients(scene.num_clients), {});
    AsyncSchedule whole(scene.options, devices, kSeed);
    for (int i = 0; i < 20; ++i) {
      whole.next();
    }
    const ScheduleState state =
        parse_schedule(to_texts(whole.state()), "checkpoint", scene.num_clients);
    EXPECT_EQ(state, whole.state()) << scene.name;
    EXPECT_TRUE(!state.flights.empty() || scene.name == "periodic") << scene.name;
    AsyncSchedule resumed(scene.options, devices, kSeed);
    resumed.restore(state);
    for (int i = 0; i < 60; ++i) {
      ASSERT_EQ(resumed.next().reports, whole.next().reports) << scene.name;
    }
    EXPECT_EQ(resumed.state(), whole.state()) << scene.name;
  }
}

TEST(AsyncSchedule, NamesWhatIsWrongWithItsText) {
  const std::string clock = "now\tversion\tdraws\tstarts\n5\t2\t1\t1\n";
  const std::string header = "client\tversion\trepetition\toutcome\tat\n";
  const auto refusal = [](const ScheduleTexts& texts) -> std::string {
    try {
      parse_schedule(texts, "checkpoint", 3);
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
      return error.what();
    }
    return "nothing";
  };
  EXPECT_EQ(refusal({clock, header + "0\t1\t0\t0\t7\n"}), "nothing");
  EXPECT_NE(refusal({"", header}).find("the virtual clock is missing"), std::string::npos);
  EXPECT_NE(refusal({clock, "client\tversion\n"}).find("no column 'repetition'"),
            std::string::npos);
  EXPECT_NE(refusal({clock, header + "3\t1\t0\t0\t7\n"}).find("client: got \"3\""),
            std::string::npos);
  EXPECT_NE(refusal({clock, header + "0\t3\t0\t0\t7\n"}).find("version: got \"3\""),
            std::string::npos);
  EXPECT_NE(refusal({clock, header + "0\t1\t0\t3\t7\n"}).find("outcome: got \"3\""),
            std::string::npos);
  EXPECT_NE(refusal({clock, header + "0\t1\t0\t0\t4\n"}).find("at: got \"4\""), std::string::npos);
  EXPECT_NE(refusal({clock, header + "0\t1\t0\t0\t7\n0\t1\t0\t0\t8\n"}).find("in training twice"),
            std::string::npos);
}

TEST(AsyncSchedule, SaysSoWhenNobodyEverReports) {
  DeviceOptions options;
  options.speed = DeviceSpeed::kLogNormal;
  options.seconds_per_sample = 10.0;
  options.speed_deviation = 0.0;
  options.availability = {.kind = AvailabilityKind::kPeriodic,
                          .period_seconds = 15.0,
                          .fraction = 0.5,
                          .trace = nullptr};
  const DeviceModel devices(options, equal_clients(4), {});
  AsyncSchedule schedule(fedbuff(2, 1), devices, kSeed);
  try {
    schedule.next();
    FAIL() << "an update without a report";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("clients are lost before they report"),
              std::string::npos);
  }
}

TEST(Asynchrony, StalenessWeightsAreThoseOfThePapers) {
  AsynchronyOptions options = fedbuff(3, 2);
  EXPECT_EQ(staleness_weight(options, 0), 1.0);
  EXPECT_EQ(staleness_weight(options, 3), 0.5);
  options.staleness_a = 2.0;
  EXPECT_DOUBLE_EQ(staleness_weight(options, 2), 1.0 / 9.0);
  options.staleness = Staleness::kHinge;
  options.staleness_b = 4.0;
  EXPECT_EQ(staleness_weight(options, 4), 1.0);
  EXPECT_DOUBLE_EQ(staleness_weight(options, 6), 1.0 / 5.0);
  options.staleness = Staleness::kConstant;
  EXPECT_EQ(staleness_weight(options, 1000), 1.0);
}

}  // namespace
}  // namespace superstep::worker
