// A program in which one rank does something wrong; fault_test.py runs it and reads what it says.
//
//   fault_program SCENARIO LANES RANKS_PER_NODE CULPRIT sync|every_call
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "bsp/environment.h"
#include "bsp/world.h"

namespace {

using superstep::DataError;
using superstep::bsp::CollectiveChecks;
using superstep::bsp::Environment;
using superstep::bsp::EnvironmentOptions;
using superstep::bsp::ReduceOp;
using superstep::bsp::World;

using Scenario = std::function<void(World&, int culprit)>;

void some_supersteps(World& world, int count) {
  world.set_phase("warm-up");
  for (int i = 0; i < count; ++i) {
    world.allreduce(i, ReduceOp::kSum);
    world.sync();
  }
}

void compute_for_ever() {
  const std::atomic<bool> done{false};
  while (!done.load()) {
  }
}

void endless(World& world, int culprit) {
  some_supersteps(world, 3);
  world.set_phase("backward");
  if (world.rank() == culprit) {
    compute_for_ever();
  }
  world.sync();
}

// The culprit's process stops as a whole.
void stopped(World& world, int culprit) {
  some_supersteps(world, 3);
  world.set_phase("input");
  if (world.rank() == culprit) {
    std::raise(SIGSTOP);
  }
  world.sync();
}

// The culprit's process stops when it waits in the call, before the others arrive.
void stopped_in_call(World& world, int culprit) {
  some_supersteps(world, 3);
  world.set_phase("exchange");
  std::jthread stops;
  if (world.rank() == culprit) {
    stops = std::jthread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      std::raise(SIGSTOP);
    });
  } else {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  const std::vector<float> terms(100'000);
  std::vector<float> sums(terms.size());
  world.allreduce(std::span<const float>(terms), std::span(sums), ReduceOp::kSum);
  world.sync();
}

void throws(World& world, int culprit) {
  some_supersteps(world, 2);
  if (world.rank() == culprit) {
    throw DataError("Reader", "images.idx", 16, "label out of range: got 11, expected 0 to 9");
  }
  world.sync();
}

void returns_early(World& world, int culprit) {
  some_supersteps(world, 2);
  if (world.rank() != culprit) {
    world.sync();
  }
}

template <typename T>
void sum(World& world, const std::vector<T>& data) {
  std::vector<T> result(data.size());
  world.allreduce(std::span<const T>(data), std::span<T>(result), ReduceOp::kSum);
}

void other_count(World& world, int culprit) {
  some_supersteps(world, 1);
  const std::vector<double> data(world.rank() == culprit ? 4 : 8, 1.0);
  sum(world, data);
  world.sync();
}

// As many bytes on every rank.
void other_type(World& world, int culprit) {
  some_supersteps(world, 1);
  if (world.rank() == culprit) {
    sum(world, std::vector<float>(8, 1.0F));
  } else {
    sum(world, std::vector<double>(4, 1.0));
  }
  world.sync();
}

void other_order(World& world, int culprit) {
  some_supersteps(world, 1);
  std::vector<float> data(1, 1.0F);
  if (world.rank() == culprit) {
    world.broadcast(std::span(data), 0);
    world.allreduce(1.0F, ReduceOp::kMax);
  } else {
    world.allreduce(1.0F, ReduceOp::kMax);
    world.broadcast(std::span(data), 0);
  }
  world.sync();
}

void other_root(World& world, int culprit) {
  std::vector<float> data(world.rank() == culprit ? 4 : 8);
  world.broadcast(std::span(data).first(0), 0);
  // No byte is exchanged by either, so that the difference is seen at the sync.
  world.broadcast(std::span(data).first(0), world.rank() == culprit && world.size() > 1 ? 1 : 0);
  world.sync();
}

void other_operation(World& world, int culprit) {
  some_supersteps(world, 1);
  if (world.rank() == culprit) {
    world.allgather(1.0F);
  } else {
    world.allreduce(1.0F, ReduceOp::kSum);
  }
  world.sync();
}

void skips_a_call(World& world, int culprit) {
  some_supersteps(world, 1);
  if (world.rank() != culprit) {
    world.allreduce(1.0F, ReduceOp::kSum);
  }
  world.sync();
}

void other_value(World& world, int culprit) {
  world.require_same("learning_rate", world.rank() == culprit ? "0.1" : "0.2");
}

void healthy(World& world, int /*culprit*/) {
  some_supersteps(world, 200);
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, Scenario> scenarios = {{"endless", endless},
                                                     {"stopped", stopped},
                                                     {"stopped_in_call", stopped_in_call},
                                                     {"throws", throws},
                                                     {"remedy", throws},
                                                     {"hanging_remedy", throws},
                                                     {"returns_early", returns_early},
                                                     {"other_count", other_count},
                                                     {"other_type", other_type},
                                                     {"other_order", other_order},
                                                     {"other_root", other_root},
                                                     {"other_operation", other_operation},
                                                     {"skips_a_call", skips_a_call},
                                                     {"other_value", other_value},
                                                     {"healthy", healthy},
                                                     {"other_options", healthy},
                                                     {"setup_fails", healthy},
                                                     {"stopped_in_setup", healthy}};
  if (argc != 6 || !scenarios.contains(argv[1])) {
    std::fprintf(stderr,
                 "usage: fault_program SCENARIO LANES RANKS_PER_NODE CULPRIT sync|every_call\n");
    return 2;
  }
  const std::string scenario = argv[1];
  const int culprit = std::atoi(argv[4]);
  EnvironmentOptions options;
  options.lanes = std::atoi(argv[2]);
  options.ranks_per_node = std::atoi(argv[3]);
  options.sync_deadline = std::chrono::milliseconds(1'000);
  options.checks = std::string(argv[5]) == "every_call" ? CollectiveChecks::kEveryCall
                                                        : CollectiveChecks::kAtSync;
  if (scenario == "remedy" || scenario == "hanging_remedy") {
    options.remedy = [hangs = scenario == "hanging_remedy"](superstep::ExitCode) {
      std::this_thread::sleep_for(std::chrono::seconds(hangs ? 60 : 0));
      return std::string("take another file");
    };
  }
  Environment environment;
  if (scenario == "other_options" && environment.process() == culprit) {
    options.sync_deadline *= 2;
  }
  if (scenario == "stopped_in_setup" && environment.process() == culprit) {
    std::raise(SIGSTOP);
  }
  if (scenario == "setup_fails") {
    const bool fails = environment.process() == culprit;
    if (!environment.agree_on_setup(fails ? std::optional<std::string>("data directory missing")
                                          : std::nullopt)) {
      return 3;
    }
  }
  const int code =
      environment.run(options, [&](World& world) { scenarios.at(scenario)(world, culprit); });
  if (code == 0 && environment.is_root_process()) {
    std::puts("COMPLETE");
  }
  return code;
}
