#include "bsp/measure_in_turn.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/clock.h"

namespace superstep::bsp {

namespace {

double slowest_seconds_per_call(World& world, const std::function<void()>& call, long calls) {
  world.sync();
  const Stopwatch watch;
  for (long i = 0; i < calls; ++i) {
    call();
  }
  return world.allreduce(watch.seconds() / static_cast<double>(calls), ReduceOp::kMax);
}

long calls_for(World& world, const std::function<void()>& call, double seconds) {
  slowest_seconds_per_call(world, call, 1);  // caches, page faults, compiled plans
  long calls = 1;
  while (true) {
    const double took = slowest_seconds_per_call(world, call, calls) * static_cast<double>(calls);
    if (took >= seconds / 4) {
      return std::max(1L, std::lround(seconds / took * static_cast<double>(calls)));
    }
    calls *= 4;
  }
}

}  // namespace

Spread spread_of(Series values) {
  std::sort(values.begin(), values.end());
  return {.median = values[values.size() / 2], .low = values.front(), .high = values.back()};
}

Spread ratio_of(const Series& numerator, const Series& denominator) {
  Series ratios;
  for (std::size_t round = 0; round < numerator.size(); ++round) {
    ratios.push_back(numerator[round] / denominator[round]);
  }
  return spread_of(std::move(ratios));
}

std::vector<Series> measure_in_turn(World& world, std::span<const std::function<void()>> contenders,
                                    const TurnOptions& options) {
  std::vector<long> calls;
  for (const std::function<void()>& contender : contenders) {
    calls.push_back(calls_for(world, contender, options.seconds_per_round));
  }
  std::vector<Series> series(contenders.size());
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      series[i].push_back(slowest_seconds_per_call(world, contenders[i], calls[i]));
    }
  }
  return series;
}

}  // namespace superstep::bsp
