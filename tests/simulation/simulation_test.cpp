// Some seeds of every scenario, and the proof that the simulation finds mistakes that are there.

#include "tests/simulation/simulation.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/simulation/checkpoint_scenario.h"
#include "tests/simulation/exchange_scenario.h"
#include "tests/simulation/seeds.h"
#include "tests/simulation/training_scenario.h"

namespace superstep::simulation {
namespace {

void expect_no_failure(const char* name, std::uint64_t num_seeds) {
  const Scenario* scenario = find_scenario(name);
  ASSERT_NE(scenario, nullptr) << name;
  const SeedReport report = run_seeds(*scenario, 0, num_seeds);
  EXPECT_TRUE(report.failures.empty()) << describe(report);
  EXPECT_EQ(report.num_run, static_cast<std::int64_t>(num_seeds));
}

TEST(SimulatedJobs, CheckpointsSurviveEveryCrash) {
  expect_no_failure("checkpoint", 100);
}
TEST(SimulatedJobs, ScheduleOfTheExchangeChangesNoBit) {
  expect_no_failure("exchange", 40);
}
TEST(SimulatedJobs, TrainingEndsWithTheBitsOfTheUndisturbedRun) {
  expect_no_failure("training", 25);
}
TEST(SimulatedJobs, FederatedTrainingEndsWithTheBitsOfTheUndisturbedRun) {
  expect_no_failure("federated", 30);
}

// A checkpoint was gone on from before its name was durable, and taken back by a loss of power.
TEST(SimulatedJobs, SeedsThatFailedOnceDoSoNoMore) {
  constexpr std::pair<const char*, std::uint64_t> kSeeds[] = {{"checkpoint", 1077},
                                                              {"checkpoint", 9904},
                                                              {"federated", 6303},
                                                              {"federated", 8929},
                                                              {"training", 3095}};
  for (const auto& [scenario, seed] : kSeeds) {
    const SeedReport report = run_seeds(*find_scenario(scenario), seed, seed + 1);
    EXPECT_TRUE(report.failures.empty()) << describe(report);
  }
}

// --- mistakes that are planted ---

template <ProtocolFlaw kProtocol, DiskFlaw kDisk>
Problem run_flawed(std::uint64_t seed) {
  return run_flawed_checkpoint_seed(seed, {.protocol = kProtocol, .disk = kDisk});
}

template <ProtocolFlaw kProtocol, DiskFlaw kDisk>
void expect_found(const std::vector<std::string>& any_of) {
  constexpr std::uint64_t kSeeds = 40;
  const SeedReport report =
      run_seeds({.name = "checkpoint", .run = run_flawed<kProtocol, kDisk>}, 0, kSeeds);
  ASSERT_FALSE(report.failures.empty());
  // All of them for what was planted, none for a crash of the simulation.
  for (const SeedFailure& failure : report.failures) {
    EXPECT_TRUE(std::any_of(any_of.begin(), any_of.end(), [&](const std::string& what) {
      return failure.problem.find(what) != std::string::npos;
    })) << failure.problem;
  }
  std::printf("found by %zu of %d seeds, the first is %d\n", report.failures.size(),
              static_cast<int>(kSeeds), static_cast<int>(report.failures.front().seed));
}

TEST(Simulation, FindsAManifestThatIsWrittenBeforeTheShards) {
  expect_found<ProtocolFlaw::kManifestBeforeShards, DiskFlaw::kNone>({"is damaged"});
}
TEST(Simulation, FindsASealThatWaitsForNobody) {
  expect_found<ProtocolFlaw::kSealWithoutWaiting, DiskFlaw::kNone>({"is damaged"});
}
TEST(Simulation, FindsOlderCheckpointsThatGoTooEarly) {
  expect_found<ProtocolFlaw::kPruneBeforeSeal, DiskFlaw::kNone>({"had been written", "is damaged"});
}
TEST(Simulation, FindsARenameBeforeTheFilesAreSynced) {
  expect_found<ProtocolFlaw::kNone, DiskFlaw::kFilesAreNotSynced>({"is damaged"});
}
TEST(Simulation, FindsShardsThatAreNotSynced) {
  expect_found<ProtocolFlaw::kNone, DiskFlaw::kShardsAreNotSynced>({"is damaged"});
}
TEST(Simulation, FindsNamesThatAreNotSynced) {
  expect_found<ProtocolFlaw::kNone, DiskFlaw::kNamesAreNotSynced>(
      {"is damaged", "had been written"});
}

// --- the parts ---

// What happened in a job, as one text.
std::string run_counting_job(std::uint64_t seed) {
  Simulation simulation(seed);
  std::string order;
  const JobEnd end = simulation.run({.lanes = 3}, [&](bsp::World& world) {
    for (int step = 0; step < 5; ++step) {
      order += static_cast<char>('a' + world.rank());
      simulation.step();
      world.sync();
      order += static_cast<char>('A' + world.rank());
    }
  });
  return order + " " + std::to_string(end.num_points) + " " +
         std::to_string(simulation.scheduler().now().count());
}

TEST(Simulation, OneSeedIsOneSchedule) {
  EXPECT_EQ(run_counting_job(7), run_counting_job(7));
}

TEST(Simulation, SeedsDifferInTheirSchedules) {
  EXPECT_NE(run_counting_job(7), run_counting_job(8));
}

TEST(Simulation, RanksMeetAtEverySync) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const std::string order = run_counting_job(seed);
    int arrived = 0;
    int left = 0;
    for (const char c : order.substr(0, order.find(' '))) {
      arrived += c >= 'a' ? 1 : 0;
      left += c < 'a' ? 1 : 0;
      ASSERT_LE(left, arrived / 3 * 3) << "seed " << seed << ": " << order;
    }
    EXPECT_EQ(left, 15);
  }
}

TEST(Simulation, AKilledJobStopsWhereItStands) {
  Simulation simulation(1);
  int steps = 0;
  bool unwound = false;
  struct Witness {
    bool& unwound;
    ~Witness() { unwound = true; }
  };
  const JobEnd end = simulation.run({.interruption = {.at_point = 20}}, [&](bsp::World&) {
    const Witness witness{unwound};
    for (;; ++steps) {
      simulation.step();
    }
  });
  EXPECT_EQ(end.end, Scheduler::End::kKilled);
  EXPECT_EQ(end.exit_code, 137);
  EXPECT_EQ(end.num_points, 20);
  EXPECT_GT(steps, 0);
  EXPECT_LT(steps, 20);
  EXPECT_FALSE(unwound);
}

TEST(Simulation, OtherRanksOutliveTheFirstThatDies) {
  Simulation simulation(2);
  std::vector<int> steps(2);
  const JobEnd end =
      simulation.run({.lanes = 2, .interruption = {.at_disk_call = 1, .others_live_on = 500}},
                     [&](bsp::World& world) {
                       if (world.rank() == 1) {
                         std::filesystem::create_directory("/simulated/never");
                       }
                       for (;;) {
                         simulation.step();
                         ++steps[static_cast<std::size_t>(world.rank())];
                       }
                     });
  EXPECT_EQ(end.end, Scheduler::End::kKilled);
  EXPECT_GT(steps[0], 100);
  EXPECT_EQ(steps[1], 0);
  EXPECT_FALSE(std::filesystem::exists("/simulated/never"));
}

TEST(Simulation, ExceptionsOfTasksDoNotMeet) {
  Simulation simulation(3);
  std::vector<std::string> caught(4);
  const JobEnd end = simulation.run({.lanes = 4}, [&](bsp::World& world) {
    const auto rank = static_cast<std::size_t>(world.rank());
    for (int i = 0; i < 20; ++i) {
      try {
        throw std::string(1, static_cast<char>('0' + rank));
      } catch (const std::string&) {
        simulation.step();
        try {
          throw;
        } catch (const std::string& again) {
          caught[rank] += again;
        }
      }
    }
  });
  EXPECT_EQ(end.exit_code, 0);
  for (std::size_t rank = 0; rank < caught.size(); ++rank) {
    EXPECT_EQ(caught[rank], std::string(20, static_cast<char>('0' + rank)));
  }
}

TEST(Simulation, TimePassesOnlyInTheSimulation) {
  Simulation simulation(4);
  const Stopwatch outside;
  double inside = 0.0;
  simulation.run({}, [&](bsp::World&) {
    const Stopwatch watch;
    simulation.scheduler().sleep(std::chrono::hours(24));
    inside = watch.seconds();
  });
  EXPECT_GT(inside, 86'400.0);
  EXPECT_LT(outside.seconds(), 60.0);
}

// --- the disk ---

class SimulatedDisk : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT, 0666);
    ASSERT_GE(file, Disk::kFirstDescriptor);
    std::size_t done = 0;
    while (done < text.size()) {
      const ssize_t count =
          ::pwrite(file, text.data() + done, text.size() - done, static_cast<off_t>(done));
      ASSERT_GT(count, 0);
      done += static_cast<std::size_t>(count);
    }
    ::close(file);
  }
  std::string read(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY);
    std::string text(10'000, '?');
    const ssize_t count = ::pread(file, text.data(), text.size(), 0);
    ::close(file);
    return count < 0 ? "error" : text.substr(0, static_cast<std::size_t>(count));
  }
  void sync(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY);
    ASSERT_EQ(::fsync(descriptor), 0);
    ::close(descriptor);
  }
};

TEST_F(SimulatedDisk, KeepsWhatWasSynced) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Simulation simulation(seed);
    std::filesystem::create_directory("/simulated/a");
    write("/simulated/a/file", "old");
    sync("/simulated/a/file");
    sync("/simulated/a");
    sync("/simulated");
    simulation.disk().lose_power();
    EXPECT_EQ(read("/simulated/a/file"), "old");
  }
}

TEST_F(SimulatedDisk, LosesTearsOrKeepsWhatWasNot) {
  int lost = 0;
  int torn = 0;
  int kept = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Simulation simulation(seed);
    write("/simulated/file", std::string(4096, 'a'));
    sync("/simulated/file");
    sync("/simulated");
    write("/simulated/file", std::string(4096, 'b'));
    simulation.disk().lose_power();
    const std::string text = read("/simulated/file");
    ASSERT_EQ(text.size(), 4096U);
    const auto count = std::count(text.begin(), text.end(), 'b');
    lost += count == 0 ? 1 : 0;
    kept += count == 4096 ? 1 : 0;
    torn += count != 0 && count != 4096 ? 1 : 0;
    EXPECT_EQ(count % 512, 0);
  }
  EXPECT_GT(lost, 10);
  EXPECT_GT(torn, 10);
  EXPECT_GT(kept, 10);
}

TEST_F(SimulatedDisk, ARenameIsDoneOrNot) {
  int before = 0;
  int after = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Simulation simulation(seed);
    write("/simulated/a", "text");
    sync("/simulated/a");
    sync("/simulated");
    std::filesystem::rename("/simulated/a", "/simulated/b");
    simulation.disk().lose_power();
    before += read("/simulated/a") == "text" ? 1 : 0;
    after += read("/simulated/b") == "text" ? 1 : 0;
  }
  EXPECT_EQ(before + after, 100);
  EXPECT_GT(before, 10);
  EXPECT_GT(after, 10);
}

TEST_F(SimulatedDisk, StandardLibraryLooksAtIt) {
  const Simulation simulation(5);
  std::filesystem::create_directories("/simulated/a/b");
  write("/simulated/a/b/c", "text");
  EXPECT_TRUE(std::filesystem::is_directory("/simulated/a/b"));
  EXPECT_EQ(std::filesystem::file_size("/simulated/a/b/c"), 4U);
  std::ofstream("/simulated/a/b/c", std::ios::binary) << "more " << std::string(5000, 'x');
  EXPECT_EQ(read("/simulated/a/b/c"), "more " + std::string(5000, 'x'));
  std::ifstream file("/simulated/a/b/c", std::ios::binary);
  std::string word;
  file >> word;
  EXPECT_EQ(word, "more");
  EXPECT_EQ(std::filesystem::remove_all("/simulated/a"), 3U);
  EXPECT_FALSE(std::filesystem::exists("/simulated/a"));
}

TEST_F(SimulatedDisk, FailsWhenItIsToldTo) {
  Simulation simulation(6);
  simulation.disk().fail_after(1, ENOSPC);
  write("/simulated/a", "");
  EXPECT_EQ(::open("/simulated/b", O_RDWR | O_CREAT, 0666), -1);
  EXPECT_EQ(errno, ENOSPC);
  write("/simulated/b", "text");
  EXPECT_EQ(read("/simulated/b"), "text");
}

TEST_F(SimulatedDisk, IsNotThereForAnybodyElse) {
  const Simulation simulation(7);
  std::ifstream file("/proc/self/status");
  std::string line;
  EXPECT_TRUE(std::getline(file, line));
  EXPECT_EQ(::open("/simulates/a", O_RDWR), -1);
  EXPECT_EQ(errno, ENOENT);
}

}  // namespace
}  // namespace superstep::simulation
