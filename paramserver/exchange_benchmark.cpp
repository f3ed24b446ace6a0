// The fused exchange (reduce over slots, mean, momentum update, publish, two syncs) against
// MPI_Allreduce and the same update on every rank, in turn in one run, and against this machine's
// memory bandwidth.
//
//   mpirun -n 2 --bind-to none paramserver_exchange_benchmark 1      # processes
//   paramserver_exchange_benchmark 2                                 # lanes: no peer
//
// Bandwidth: bytes that the exchange must move (p gradients read, parameters and momentum read and
// written) per second, as a share of what a loop a[i] = a[i] * s + b[i] moves on all ranks at once;
// that loop has no hidden traffic. "by hand" is the same exchange as one loop over raw arrays
// without a tree, masks, segments or clipping, between the same two syncs: what the order of the
// tree and the generality cost.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/aligned.h"
#include "bsp/environment.h"
#include "bsp/measure_in_turn.h"
#include "bsp/mpi/allreduce_peer.h"
#include "bsp/shared_array.h"
#include "bsp/world.h"
#include "paramserver/collocated_server.h"

namespace {

using superstep::AlignedBuffer;
using superstep::Fill;
using superstep::bsp::ratio_of;
using superstep::bsp::Series;
using superstep::bsp::SharedArray;
using superstep::bsp::Spread;
using superstep::bsp::spread_of;
using superstep::bsp::World;
using superstep::paramserver::CollocatedOptions;
using superstep::paramserver::CollocatedServer;
using superstep::paramserver::ElementRange;
using superstep::paramserver::ParameterLayout;

constexpr float kRate = 0.01F;
constexpr float kMomentum = 0.9F;
constexpr std::int64_t kSamples = 64;  // of a slot

ParameterLayout layout_of(std::int64_t num_parameters) {
  ParameterLayout layout;
  layout.add({.name = "parameters", .shape = {num_parameters}});
  layout.freeze();
  return layout;
}

CollocatedOptions options_for(const World& world) {
  CollocatedOptions options;
  options.optimizer.learning_rate = kRate;
  options.optimizer.momentum = kMomentum;
  options.num_slots = world.size();
  return options;
}

// One superstep's exchange with gradients that are already in place.
class Ours {
 public:
  Ours(World& world, const ParameterLayout& layout)
      : rank_(world.rank()), server_(world, layout, options_for(world)) {}

  void fill() {
    const std::span<float> gradient = server_.reserve(rank_);
    std::fill(gradient.begin(), gradient.end(), 0.001F * static_cast<float>(rank_ + 1));
    finish(gradient);
  }
  void step() { finish(server_.reserve(rank_)); }

 private:
  void finish(std::span<const float> gradient) {
    server_.push(rank_, 0, gradient);
    server_.push_summary(rank_, {.num_samples = kSamples});
    server_.apply_gradients();
  }

  int rank_;
  CollocatedServer server_;
};

void momentum_update(float* __restrict p, float* __restrict v, const float* __restrict sum,
                     float divisor, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    v[i] = kMomentum * v[i] + sum[i] / divisor;
    p[i] -= kRate * v[i];
  }
}

// The same exchange as one loop over raw shared arrays, in the order of ranks.
class ByHand {
 public:
  ByHand(World& world, const ParameterLayout& layout)
      : world_(world),
        n_(layout.size()),
        shard_(layout.shard(world.rank(), world.size())),
        gradients_(world, n_ * world.size()),
        parameters_(world, n_),
        momentum_(shard_.length()) {
    const auto mine = gradients_.span().subspan(static_cast<std::size_t>(n_ * world.rank()),
                                                static_cast<std::size_t>(n_));
    std::fill(mine.begin(), mine.end(), 0.001F);
  }

  void step() {
    world_.sync();
    constexpr std::int64_t kTile = 1024;
    alignas(64) float sums[kTile];
    const auto divisor = static_cast<float>(kSamples * world_.size());
    for (std::int64_t begin = shard_.begin; begin < shard_.end; begin += kTile) {
      const std::int64_t count = std::min(kTile, shard_.end - begin);
      const float* first = gradients_.span().data() + begin;
      std::copy(first, first + count, sums);
      for (int rank = 1; rank < world_.size(); ++rank) {
        const float* next = first + n_ * rank;
        for (std::int64_t i = 0; i < count; ++i) {
          sums[i] += next[i];
        }
      }
      momentum_update(parameters_.span().data() + begin, momentum_.data() + (begin - shard_.begin),
                      sums, divisor, count);
    }
    world_.sync();
  }

 private:
  World& world_;
  std::int64_t n_;
  ElementRange shard_;
  SharedArray<float> gradients_;
  SharedArray<float> parameters_;
  AlignedBuffer<float> momentum_;
};

class Peer {
 public:
  Peer(const World& world, std::int64_t n)
      : divisor_(static_cast<float>(kSamples * world.size())),
        gradient_(n),
        sum_(n),
        parameters_(n),
        momentum_(n) {
    std::fill(gradient_.span().begin(), gradient_.span().end(), 0.001F);
  }
  void step() {
    superstep::bsp::internal::peer_allreduce(gradient_.span(), sum_.span());
    momentum_update(parameters_.data(), momentum_.data(), sum_.data(), divisor_, sum_.size());
  }

 private:
  float divisor_;
  AlignedBuffer<float> gradient_;
  AlignedBuffer<float> sum_;
  AlignedBuffer<float> parameters_;
  AlignedBuffer<float> momentum_;
};

// Bytes per second of all ranks together.
Spread stream_bandwidth(World& world) {
  constexpr std::int64_t kElements = std::int64_t{24} << 20;
  AlignedBuffer<float> a(kElements);
  AlignedBuffer<float> b(kElements);
  const std::function<void()> pass = [&] {
    float* __restrict to = a.data();
    const float* __restrict from = b.data();
    for (std::int64_t i = 0; i < kElements; ++i) {
      to[i] = to[i] * 0.5F + from[i];
    }
  };
  const Series seconds = superstep::bsp::measure_in_turn(world, {&pass, 1})[0];
  Series rates;
  for (const double s : seconds) {
    rates.push_back(3.0 * sizeof(float) * static_cast<double>(kElements) * world.size() / s);
  }
  return spread_of(rates);
}

void compare(World& world, std::int64_t num_parameters, double bandwidth) {
  const ParameterLayout layout = layout_of(num_parameters);
  Ours ours(world, layout);
  ours.fill();
  ByHand by_hand(world, layout);
  Peer peer(world, num_parameters);
  std::vector<std::function<void()>> contenders{[&] { ours.step(); }, [&] { by_hand.step(); }};
  const bool has_peer = superstep::bsp::internal::has_mpi_peer();
  if (has_peer) {
    contenders.emplace_back([&] { peer.step(); });
  }
  const std::vector<Series> times = superstep::bsp::measure_in_turn(world, contenders);
  const double bytes = static_cast<double>(num_parameters) * sizeof(float) * (world.size() + 4.0);
  const Spread mine = spread_of(times[0]);
  const Spread hand = ratio_of(times[0], times[1]);
  if (world.rank() != 0) {
    return;
  }
  fmt::print(
      "{:>10} parameters  ours {:10.2f} us ({:.2f} to {:.2f})  {:5.1f} % of stream  "
      "{:.2f} x by hand ({:.2f} to {:.2f})",
      num_parameters, mine.median * 1e6, mine.low * 1e6, mine.high * 1e6,
      100.0 * bytes / mine.median / bandwidth, hand.median, hand.low, hand.high);
  if (has_peer) {
    const Spread theirs = spread_of(times[2]);
    const Spread ratio = ratio_of(times[2], times[0]);
    fmt::print("  MPI_Allreduce + update {:10.2f} us  ratio {:.2f} ({:.2f} to {:.2f})",
               theirs.median * 1e6, ratio.median, ratio.low, ratio.high);
  }
  fmt::print("\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--benchmark_list_tests") {
    fmt::print("exchange\n");
    return 0;
  }
  superstep::bsp::internal::tune_allocator_for_mpi();
  superstep::bsp::Environment environment;
  superstep::bsp::EnvironmentOptions options;
  options.lanes = argc > 1 ? std::atoi(argv[1]) : 1;
  return environment.run(options, [](World& world) {
    const Spread stream = stream_bandwidth(world);
    if (world.rank() == 0) {
      fmt::print("p = {} ({} processes)  stream {:.1f} GB/s ({:.1f} to {:.1f})\n", world.size(),
                 world.num_processes(), stream.median * 1e-9, stream.low * 1e-9,
                 stream.high * 1e-9);
    }
    for (const std::int64_t n : {10'000, 199'210, 1'663'370, 25'000'000}) {
      compare(world, n, stream.median);
    }
  });
}
