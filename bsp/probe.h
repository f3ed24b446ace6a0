// The machine parameters r, g and l of a world, measured: what predictions of cost are made from.
//
//   r   operations per second of one rank while all compute (probe_rate: of a given kernel)
//   g   seconds per byte of an h-relation
//   l   seconds of a synchronisation with messages
//
// g and l come from a sweep over message sizes: full h-relations, in which every rank sends h
// bytes, evenly to all others, and receives as many. T(h) = g*h + l is fitted to the median times
// of the slowest rank by least squares of the relative errors (a size weighs the same whether it
// takes microseconds or milliseconds). The fit's residuals say how linear the machine is: caches
// and protocol changes of the transport show as steps, and a sweep over the sizes that a program
// uses predicts it better than a sweep over all (Bisseling 2004, 1.5-1.7: bspbench).
//
//   const MachineProfile machine = probe(world, {.pattern = ProbePattern::kPuts});
//   const double seconds = machine.g * h_bytes + machine.l;          // of one superstep
//
// h counts bytes as TrafficCounters does: records and lengths included.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "bsp/world.h"

namespace superstep::bsp {

enum class ProbePattern : std::uint8_t {
  kPuts,            // Coarray: copied at the call, at the sync and at the target
  kUnbufferedPuts,  // Coarray: moved once
  kSends,           // Queue: one message to each rank
};

struct ProbeOptions {
  ProbePattern pattern = ProbePattern::kPuts;
  std::int64_t smallest_bytes = 64;  // per rank, h
  std::int64_t largest_bytes = std::int64_t{1} << 22;
  int sizes_per_octave = 1;
  int rounds = 7;                     // the median of these is a sample
  double seconds_per_sample = 0.004;  // short supersteps are repeated for so long
};

struct ProbeSample {
  double h_bytes = 0.0;
  double seconds = 0.0;  // median
  double low = 0.0;      // over rounds
  double high = 0.0;
  double residual = 0.0;  // seconds / (g*h + l) - 1
};

struct MachineProfile {
  double g = 0.0;                   // seconds per byte; 0 for one rank
  double l = 0.0;                   // seconds
  double empty_sync_seconds = 0.0;  // a sync without messages
  double residual_rms = 0.0;        // of the relative residuals
  std::vector<ProbeSample> samples;
};

struct LinearFit {
  double slope = 0.0;
  double intercept = 0.0;
};
// Least squares of (slope * x + intercept) / y - 1; y > 0. Neither parameter is negative: where the
// free minimum has a negative one, it is 0 and the other is fitted alone.
LinearFit fit_relative(std::span<const double> x, std::span<const double> y);

// Collective; the same on all ranks. Memory: a few times largest_bytes per rank.
MachineProfile probe(World& world, const ProbeOptions& options = {});

// Collective. Median over rounds of the time that the slowest rank takes for `work`, started
// together.
double slowest_seconds(World& world, const std::function<void()>& work, int rounds = 5);

// Collective. Operations per second of the slowest rank: `operations` are those of one call of
// `work` on this rank. Ranks without operations do not count.
double probe_rate(World& world, double operations, const std::function<void()>& work,
                  int rounds = 5);

}  // namespace superstep::bsp
