// Allreduces between processes, each a node of its own; monitoring_test.py compares the bytes that
// are counted here with those that Open MPI's monitoring saw.
//
//   monitoring_program world|shards|recursive_doubling|halving_doubling ELEMENTS REPETITIONS
//
// Prints "sent" and the bytes that each rank sent in the repetitions.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bsp/environment.h"
#include "bsp/execute.h"
#include "bsp/schedule.h"
#include "bsp/world.h"

namespace {

using superstep::bsp::AllreduceAlgorithm;
using superstep::bsp::AllreducePlan;
using superstep::bsp::Environment;
using superstep::bsp::ReduceOp;
using superstep::bsp::World;

void repeat(World& world, const std::string& name, std::int64_t n, int repetitions) {
  const std::map<std::string, AllreduceAlgorithm> algorithms = {
      {"shards", AllreduceAlgorithm::kShards},
      {"recursive_doubling", AllreduceAlgorithm::kRecursiveDoubling},
      {"halving_doubling", AllreduceAlgorithm::kHalvingDoubling}};
  std::vector<float> data(static_cast<std::size_t>(n), 1.0F);
  if (name == "world") {
    for (int i = 0; i < repetitions; ++i) {
      world.allreduce(std::span<const float>(data), std::span(data), ReduceOp::kMax);
    }
    return;
  }
  const AllreducePlan plan =
      superstep::bsp::allreduce_schedule(algorithms.at(name), world.size(), n);
  data.resize(
      static_cast<std::size_t>(plan.schedule.extents[static_cast<std::size_t>(world.rank())]));
  for (int i = 0; i < repetitions; ++i) {
    superstep::bsp::execute(world, plan.schedule, std::span(data), ReduceOp::kMax);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: monitoring_program ALGORITHM ELEMENTS REPETITIONS\n");
    return 2;
  }
  Environment environment;
  return environment.run({.ranks_per_node = 1, .checks = superstep::bsp::CollectiveChecks::kAtSync},
                         [&](World& world) {
                           world.reset_traffic();
                           repeat(world, argv[1], std::atoll(argv[2]), std::atoi(argv[3]));
                           const std::uint64_t mine = world.traffic().bytes_sent;
                           const std::vector<std::uint64_t> all = world.allgather(mine);
                           if (world.rank() == 0) {
                             std::printf("sent");
                             for (const std::uint64_t bytes : all) {
                               std::printf(" %llu", static_cast<unsigned long long>(bytes));
                             }
                             std::printf("\n");
                           }
                         });
}
