// The cost of sync() and of a small allreduce: l of the machine.
//
//   mpirun -n 2 --bind-to none bsp_sync_benchmark 1      # processes
//   bsp_sync_benchmark 2                                 # lanes
//
// Prints the median and the spread over repetitions of the slowest rank's time per call.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/clock.h"
#include "bsp/environment.h"
#include "bsp/world.h"

namespace {

using superstep::bsp::ReduceOp;
using superstep::bsp::World;

constexpr int kRepetitions = 11;
constexpr int kCalls = 2'000;

void measure(World& world, const std::string& name, const std::function<void()>& call) {
  std::vector<double> microseconds;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    world.sync();
    const superstep::Stopwatch watch;
    for (int i = 0; i < kCalls; ++i) {
      call();
    }
    microseconds.push_back(world.allreduce(watch.seconds() * 1e6 / kCalls, ReduceOp::kMax));
  }
  std::sort(microseconds.begin(), microseconds.end());
  if (world.rank() == 0) {
    fmt::print("{:<22} p = {} ({} processes)  median {:8.2f} us  min {:8.2f}  max {:8.2f}\n", name,
               world.size(), world.num_processes(), microseconds[kRepetitions / 2],
               microseconds.front(), microseconds.back());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--benchmark_list_tests") {
    fmt::print("sync\nallreduce of 1 double\nallreduce of 1,000 floats\n");
    return 0;
  }
  superstep::bsp::Environment environment;
  superstep::bsp::EnvironmentOptions options;
  options.lanes = argc > 1 ? std::atoi(argv[1]) : 1;
  return environment.run(options, [](World& world) {
    measure(world, "sync", [&] { world.sync(); });
    measure(world, "allreduce of 1 double", [&] { world.allreduce(1.0, ReduceOp::kSum); });
    std::vector<float> data(1'000);
    measure(world, "allreduce of 1,000 floats", [&] {
      world.allreduce(std::span<const float>(data), std::span(data), ReduceOp::kSum);
    });
  });
}
