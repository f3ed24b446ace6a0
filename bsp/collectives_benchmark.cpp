// The cost of every collective over message sizes, on this machine.
//
//   mpirun -n 2 --bind-to core bsp_collectives_benchmark 1      # processes
//   bsp_collectives_benchmark 2                                 # lanes
//
// Prints the median and the spread over rounds of the slowest rank's time per call. Sync is in
// bsp_sync_benchmark, the comparison with other libraries in bsp_allreduce_benchmark.
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bsp/environment.h"
#include "bsp/measure_in_turn.h"
#include "bsp/world.h"

namespace {

using superstep::bsp::ReduceOp;
using superstep::bsp::Series;
using superstep::bsp::Spread;
using superstep::bsp::World;

// `per_rank` elements from every rank to every rank.
class Buffers {
 public:
  Buffers(const World& world, std::int64_t per_rank)
      : counts(static_cast<std::size_t>(world.size()), per_rank),
        one(static_cast<std::size_t>(per_rank), 1.0F),
        all(one.size() * counts.size(), 1.0F),
        all_out(all.size()) {}

  std::vector<std::int64_t> counts;
  std::vector<float> one;
  std::vector<float> all;
  std::vector<float> all_out;
};

void measure(World& world, std::int64_t per_rank) {
  Buffers b(world, per_rank);
  const std::span<const float> one = b.one;
  const std::span<const float> all = b.all;
  const std::vector<std::pair<std::string, std::function<void()>>> calls{
      {"broadcast", [&] { world.broadcast(std::span(b.one), 0); }},
      {"allreduce", [&] { world.allreduce(one, std::span(b.one), ReduceOp::kMax); }},
      {"reduce_scatter",
       [&] { world.reduce_scatter(all, std::span(b.one), b.counts, ReduceOp::kMax); }},
      {"allgather", [&] { world.allgather(one, std::span(b.all_out), b.counts); }},
      {"gather", [&] { world.gather(one, std::span(b.all_out), b.counts, 0); }},
      {"alltoallv", [&] { world.alltoallv(all, b.counts, std::span(b.all_out), b.counts); }}};
  std::vector<std::function<void()>> contenders;
  contenders.reserve(calls.size());
  for (const auto& [name, call] : calls) {
    contenders.push_back(call);
  }
  const std::vector<Series> times = superstep::bsp::measure_in_turn(world, contenders);
  if (world.rank() != 0) {
    return;
  }
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const Spread spread = superstep::bsp::spread_of(times[i]);
    fmt::print(
        "{:<15} {:>9} floats a rank  p = {} ({} processes)  {:10.2f} us ({:.2f} to {:.2f})\n",
        calls[i].first, per_rank, world.size(), world.num_processes(), spread.median * 1e6,
        spread.low * 1e6, spread.high * 1e6);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--benchmark_list_tests") {
    fmt::print("broadcast\nallreduce\nreduce_scatter\nallgather\ngather\nalltoallv\n");
    return 0;
  }
  superstep::bsp::Environment environment;
  superstep::bsp::EnvironmentOptions options;
  options.lanes = argc > 1 ? std::atoi(argv[1]) : 1;
  return environment.run(options, [](World& world) {
    for (const std::int64_t per_rank : {1, 1'000, 100'000, 1'000'000}) {
      measure(world, per_rank);
    }
  });
}
