// For benchmarks: contenders run in turn in one run, round after round, and the slowest rank is the
// time.
//
// The number of calls per round is agreed by all ranks, so that a round takes about
// `seconds_per_round`. Disturbances of the machine hit all contenders alike, and the spread of a
// ratio over rounds says how far it can be trusted.
//
//   const std::vector<Series> times = measure_in_turn(world, {{ours, theirs}});
//   const Spread ratio = ratio_of(times[1], times[0]);         // how much longer theirs takes
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "bsp/world.h"

namespace superstep::bsp {

struct TurnOptions {
  int rounds = 9;
  double seconds_per_round = 0.05;  // of one contender
};

// Seconds per call, one value per round, the same on every rank.
using Series = std::vector<double>;

struct Spread {
  double median = 0.0;
  double low = 0.0;
  double high = 0.0;
};
Spread spread_of(Series values);
Spread ratio_of(const Series& numerator, const Series& denominator);  // round by round

// Collective. Every contender is a collective call itself.
std::vector<Series> measure_in_turn(World& world, std::span<const std::function<void()>> contenders,
                                    const TurnOptions& options = {});

}  // namespace superstep::bsp
