// Places buffers with known lifetimes in one arena so that buffers alive at the same time never
// overlap.
//
// First fit by decreasing size (the greedy rule of Pisarchyk and Lee 2020, "Efficient Memory
// Management for Deep Neural Net Inference") and by decreasing size times lifetime, whichever needs
// less: the first in the order chooses first, each takes the lowest gap among those it lives with.
// Offsets and sizes are multiples of 64 bytes. Cost O(n^2) for n buffers, once per recording.
//
//   MemoryPlan plan = plan_memory(lifetimes);
//   std::byte* memory = arena + plan.offsets[i];
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace superstep::kernels {

// Alive from step `first` to step `last`, both included.
struct BufferLifetime {
  std::int64_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct MemoryPlan {
  std::vector<std::int64_t> offsets;  // one per buffer
  std::int64_t arena_bytes = 0;
};

MemoryPlan plan_memory(std::span<const BufferLifetime> buffers);

// The most bytes alive in one step: no plan for this order of steps needs less.
std::int64_t liveness_bound(std::span<const BufferLifetime> buffers);

}  // namespace superstep::kernels
