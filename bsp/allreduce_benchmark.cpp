// World::allreduce against MPI_Allreduce, and gloo where it is installed, in turn in one run, for
// messages of 4 KiB to 100 MiB.
//
//   mpirun -n 2 --bind-to none bsp_allreduce_benchmark [--json]
//
// Which algorithm the peer uses is Open MPI's decision unless it is forced:
//   --mca coll_tuned_use_dynamic_rules 1 --mca coll_tuned_allreduce_algorithm K       (1 to 6)
// scripts/compare_collectives.sh runs them all and compares with the best.
#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/aligned.h"
#include "bsp/environment.h"
#include "bsp/gloo_peer.h"
#include "bsp/measure_in_turn.h"
#include "bsp/mpi/allreduce_peer.h"
#include "bsp/world.h"

namespace {

using superstep::AlignedBuffer;
using superstep::bsp::GlooPeer;
using superstep::bsp::ratio_of;
using superstep::bsp::ReduceOp;
using superstep::bsp::Series;
using superstep::bsp::Spread;
using superstep::bsp::spread_of;
using superstep::bsp::World;

enum class Output { kText, kJson };

constexpr std::array<std::string_view, 3> kNames = {"ours", "mpi", "gloo"};
using Times = std::vector<Series>;  // ours, MPI, gloo if it is there

void print_json(std::int64_t bytes, const Times& times) {
  const Spread ours = spread_of(times[0]);
  fmt::print(R"({{"bytes": {}, "ours_us": {:.3f}, "ours_low_us": {:.3f}, "ours_high_us": {:.3f})",
             bytes, ours.median * 1e6, ours.low * 1e6, ours.high * 1e6);
  for (std::size_t i = 1; i < times.size(); ++i) {
    const Spread ratio = ratio_of(times[i], times[0]);
    fmt::print(R"(, "{0}_us": {1:.3f}, "{0}_ratio": {2:.3f}, "{0}_ratio_low": {3:.3f}, )"
               R"("{0}_ratio_high": {4:.3f})",
               kNames.at(i), spread_of(times[i]).median * 1e6, ratio.median, ratio.low, ratio.high);
  }
  fmt::print("}}\n");
}

void print_text(std::int64_t bytes, const Times& times) {
  fmt::print("{:>10} bytes  ours {:10.2f} us", bytes, spread_of(times[0]).median * 1e6);
  for (std::size_t i = 1; i < times.size(); ++i) {
    const Spread ratio = ratio_of(times[i], times[0]);
    fmt::print("  {} {:10.2f} us  ratio {:.2f} ({:.2f} to {:.2f})", kNames.at(i),
               spread_of(times[i]).median * 1e6, ratio.median, ratio.low, ratio.high);
  }
  fmt::print("\n");
}

void compare(World& world, std::int64_t bytes, Output output, GlooPeer* gloo) {
  const auto n = bytes / static_cast<std::int64_t>(sizeof(float));
  AlignedBuffer<float> in(n);
  AlignedBuffer<float> out(n);
  std::fill(in.span().begin(), in.span().end(), 1.0F);
  const std::span<const float> source = in.span();
  std::vector<std::function<void()>> contenders{
      [&] { world.allreduce(source, out.span(), ReduceOp::kSum); },
      [&] { superstep::bsp::internal::peer_allreduce(source, out.span()); }};
  if (gloo != nullptr) {
    contenders.emplace_back([&] { gloo->allreduce(source, out.span()); });
  }
  const Times times = superstep::bsp::measure_in_turn(world, contenders);
  if (world.rank() == 0) {
    output == Output::kJson ? print_json(bytes, times) : print_text(bytes, times);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--benchmark_list_tests") {
    fmt::print("allreduce\n");
    return 0;
  }
  superstep::bsp::internal::tune_allocator_for_mpi();
  const Output output =
      argc > 1 && std::string_view(argv[1]) == "--json" ? Output::kJson : Output::kText;
  superstep::bsp::Environment environment;
  if (!environment.under_mpirun()) {
    fmt::print(stderr, "bsp_allreduce_benchmark compares with MPI: start it with mpirun\n");
    return 1;
  }
  return environment.run({}, [&](World& world) {
    const auto gloo = GlooPeer::is_there() ? std::make_unique<GlooPeer>(world) : nullptr;
    for (const std::int64_t kib : {4, 64, 1024, 16 * 1024, 100 * 1024}) {
      compare(world, kib * 1024, output, gloo.get());
    }
  });
}
