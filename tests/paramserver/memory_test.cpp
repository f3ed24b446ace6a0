// The memory formula of the collocated server against the resident memory of a whole step.
//
// n parameters, M slots, p ranks on one node with M / p slots each, s state arrays:
//   4 n (1 + s + p (ceil(log2(M / p)) + 1)) bytes
#include <algorithm>
#include <bit>
#include <cstdint>
#include <fstream>
#include <optional>
#include <span>

#include <gtest/gtest.h>
#include <unistd.h>

#include "bsp/environment.h"
#include "bsp/world.h"
#include "paramserver/collocated_server.h"

namespace superstep::paramserver {
namespace {

constexpr int kSlots = 64;
constexpr std::int64_t kParameters = std::int64_t{1} << 20;

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t all = 0;
  std::int64_t resident = 0;
  statm >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

std::int64_t predicted_bytes(int lanes, int num_states) {
  const auto slots_per_rank = static_cast<unsigned>(kSlots / lanes);
  const int levels = std::bit_width(slots_per_rank - 1);  // ceil(log2)
  return 4 * kParameters * (1 + num_states + std::int64_t{lanes} * (levels + 1));
}

ParameterLayout one_entry() {
  ParameterLayout layout;
  layout.add({.name = "weight", .shape = {kParameters}});
  layout.freeze();
  return layout;
}

void run_one_step(bsp::World& world, const ParameterLayout& layout, std::int64_t* resident) {
  CollocatedOptions options;
  options.num_slots = kSlots;
  CollocatedServer server(world, layout, options);
  while (const std::optional<int> slot = server.claim_slot()) {
    const std::span<float> gradient = server.reserve(*slot);
    std::fill(gradient.begin(), gradient.end(), 1.0F);
    server.push(*slot, 0, gradient);
    server.push_summary(*slot, {.num_samples = 1});
  }
  server.apply_gradients();
  if (world.rank() == 0) {
    *resident = resident_bytes();
  }
  world.sync();  // nobody lets go of memory before it was looked at
}

TEST(MemoryFormula, MatchesResidentMemoryFromOneToSixtyFourLanes) {
  const ParameterLayout layout = one_entry();
  for (const int lanes : {1, 2, 4, 8, 16, 32, 64}) {
    bsp::Environment environment;
    bsp::EnvironmentOptions options;
    options.lanes = lanes;
    const std::int64_t before = resident_bytes();
    std::int64_t during = 0;
    ASSERT_EQ(
        environment.run(options, [&](bsp::World& world) { run_one_step(world, layout, &during); }),
        0);
    const auto predicted = static_cast<double>(predicted_bytes(lanes, 1));
    EXPECT_NEAR(static_cast<double>(during - before), predicted, 0.1 * predicted)
        << lanes << " lanes";
  }
}

}  // namespace
}  // namespace superstep::paramserver
