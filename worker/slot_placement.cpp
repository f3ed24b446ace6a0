#include "worker/slot_placement.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/philox.h"

namespace superstep::worker {

namespace {

constexpr double kLeastGain = 0.05;

// Time of the slowest rank.
double step_seconds(std::span<const int> placement, std::span<const double> slot_seconds) {
  std::vector<double> seconds(slot_seconds.size(), 0.0);
  for (const int rank : placement) {
    seconds[static_cast<std::size_t>(rank)] += slot_seconds[static_cast<std::size_t>(rank)];
  }
  return *std::max_element(seconds.begin(), seconds.end());
}

}  // namespace

std::vector<int> random_placement(std::uint64_t seed, std::int64_t superstep, int num_slots,
                                  int num_ranks) {
  PhiloxStream stream(seed, stream_id("slot_placement"), static_cast<std::uint64_t>(superstep));
  std::vector<int> placement(static_cast<std::size_t>(num_slots));
  for (int& rank : placement) {
    rank = static_cast<int>(stream.below(static_cast<std::uint64_t>(num_ranks)));
  }
  return placement;
}

// Slots are dealt one by one to the rank that would be done with it first, which keeps the slowest
// rank's time least; then laid out contiguously.
std::vector<int> weighted_placement(int num_slots, std::span<const double> weights) {
  std::vector<int> counts(weights.size(), 0);
  for (int slot = 0; slot < num_slots; ++slot) {
    std::size_t best = 0;
    for (std::size_t rank = 1; rank < weights.size(); ++rank) {
      if ((counts[rank] + 1) / weights[rank] < (counts[best] + 1) / weights[best]) {
        best = rank;
      }
    }
    ++counts[best];
  }
  std::vector<int> placement;
  for (std::size_t rank = 0; rank < counts.size(); ++rank) {
    placement.insert(placement.end(), static_cast<std::size_t>(counts[rank]),
                     static_cast<int>(rank));
  }
  return placement;
}

void PlacementMeter::add(std::int64_t num_slots, double seconds) {
  ++supersteps_;
  slots_ += num_slots;
  seconds_ += seconds;
}

std::vector<int> PlacementMeter::decide(bsp::World& world, std::span<const int> present) {
  if (slots_ > 0) {
    slot_seconds_ = seconds_ / static_cast<double>(slots_);
  }
  supersteps_ = 0;
  slots_ = 0;
  seconds_ = 0.0;
  const std::vector<double> slot_seconds = world.allgather(slot_seconds_);
  const auto is_known = [](double seconds) { return seconds > 0.0; };
  if (!std::all_of(slot_seconds.begin(), slot_seconds.end(), is_known)) {
    return {};
  }
  std::vector<double> speeds;
  for (const double seconds : slot_seconds) {
    speeds.push_back(1.0 / seconds);
  }
  std::vector<int> proposed = weighted_placement(static_cast<int>(present.size()), speeds);
  const double now = step_seconds(present, slot_seconds);
  const bool pays = step_seconds(proposed, slot_seconds) < (1.0 - kLeastGain) * now;
  return pays ? proposed : std::vector<int>{};
}

}  // namespace superstep::worker
