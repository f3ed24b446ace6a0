// The arithmetic limit of a core, measured: the yardstick of benchmarks.
//
//   double peak = multiply_add_peak(std::chrono::milliseconds(100));   // flops per second
//
// Runs fused multiply-adds of the widest registers the build may use, on more independent
// accumulators than latency times throughput asks for, so that nothing but the multiply-add units
// limits it. A fused multiply-add counts as two flops. Returns the best of many short bursts, of
// the calling thread alone; run it on every rank at once, since a core's clock depends on its
// neighbours.
#pragma once

#include <chrono>

namespace superstep::kernels {

double multiply_add_peak(std::chrono::milliseconds duration);

}  // namespace superstep::kernels
