// The simulation as a program. Without arguments of its own it runs the tests.
//
//   simulation_tests --seeds BEGIN END [SCENARIO]     every seed in [BEGIN, END), of one scenario
//   or
//                                                     of all; failures with what replays them
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/simulation/checkpoint_scenario.h"
#include "tests/simulation/exchange_scenario.h"
#include "tests/simulation/seeds.h"
#include "tests/simulation/training_scenario.h"

namespace superstep::simulation {

std::span<const Scenario> all_scenarios() {
  static constexpr Scenario kScenarios[] = {{"checkpoint", run_checkpoint_seed},
                                            {"exchange", run_exchange_seed},
                                            {"federated", run_federated_seed},
                                            {"training", run_training_seed}};
  return kScenarios;
}

namespace {

constexpr int kUsage = 2;

bool parse(std::string_view text, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

int usage() {
  std::string names;
  for (const Scenario& scenario : all_scenarios()) {
    names += fmt::format(" {}", scenario.name);
  }
  fmt::print(stderr, "usage: simulation_tests --seeds BEGIN END [SCENARIO]; scenarios:{}\n", names);
  return kUsage;
}

// Prints a line per scenario.
int run_from_command_line(const std::vector<std::string_view>& arguments) {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  if (arguments.size() < 3 || arguments.size() > 4 || !parse(arguments[1], begin) ||
      !parse(arguments[2], end) || begin >= end ||
      (arguments.size() == 4 && find_scenario(arguments[3]) == nullptr)) {
    return usage();
  }
  bool all_well = true;
  for (const Scenario& scenario : all_scenarios()) {
    if (arguments.size() == 4 && arguments[3] != scenario.name) {
      continue;
    }
    const SeedReport report = run_seeds(scenario, begin, end);
    fmt::print("{}: {} seeds, {} failed\n{}", report.scenario, report.num_run,
               report.failures.size(), describe(report));
    std::fflush(stdout);
    all_well = all_well && report.failures.empty();
  }
  return all_well ? 0 : 1;
}

}  // namespace
}  // namespace superstep::simulation

int main(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && arguments.front() == "--seeds") {
    return superstep::simulation::run_from_command_line(arguments);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
