// Runs a scenario for many seeds, in processes that end after some tens of them: interrupted jobs
// are abandoned with what they had allocated, and a seed that crashes must not end the others.
//
//   const SeedReport report = run_seeds(find_scenario("checkpoint"), 0, 200);
//   EXPECT_TRUE(report.failures.empty()) << describe(report);
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::simulation {

// What is wrong, in one line; nullopt: nothing.
using Problem = std::optional<std::string>;

struct Scenario {
  std::string_view name;
  Problem (*run)(std::uint64_t seed) = nullptr;
};

std::span<const Scenario> all_scenarios();
const Scenario* find_scenario(std::string_view name);  // null: there is none

struct SeedFailure {
  std::uint64_t seed = 0;
  std::string problem;
};
struct SeedReport {
  std::string scenario;
  std::int64_t num_run = 0;
  std::vector<SeedFailure> failures;
};

// Seeds [begin, end). What the jobs print is left out, unless there is one seed only.
SeedReport run_seeds(const Scenario& scenario, std::uint64_t begin, std::uint64_t end);
// Every failure with the command that replays it.
std::string describe(const SeedReport& report);

}  // namespace superstep::simulation
