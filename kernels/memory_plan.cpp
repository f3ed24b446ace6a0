#include "kernels/memory_plan.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace superstep::kernels {
namespace {

constexpr std::int64_t kAlignment = 64;

std::int64_t padded(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool live_together(const BufferLifetime& a, const BufferLifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

struct Placed {
  std::int64_t offset = 0;
  std::size_t buffer = 0;
};

// Each buffer takes the lowest gap among those it lives with, in the order given.
MemoryPlan first_fit(std::span<const BufferLifetime> buffers, std::span<const std::size_t> order) {
  MemoryPlan plan;
  plan.offsets.resize(buffers.size());
  std::vector<Placed> placed;  // by offset
  for (const std::size_t i : order) {
    std::int64_t offset = 0;
    for (const Placed& other : placed) {
      if (!live_together(buffers[i], buffers[other.buffer])) {
        continue;
      }
      if (other.offset >= offset + padded(buffers[i].bytes)) {
        break;  // it fits into the gap before this one
      }
      offset = std::max(offset, other.offset + padded(buffers[other.buffer].bytes));
    }
    plan.offsets[i] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + padded(buffers[i].bytes));
    const auto position = std::lower_bound(
        placed.begin(), placed.end(), offset,
        [](const Placed& other, std::int64_t wanted) { return other.offset < wanted; });
    placed.insert(position, {offset, i});
  }
  return plan;
}

// Bytes times steps.
std::int64_t area(const BufferLifetime& buffer) {
  return buffer.bytes * (buffer.last - buffer.first + 1);
}

template <typename Key>
MemoryPlan plan_by_decreasing(std::span<const BufferLifetime> buffers, Key&& key) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return key(buffers[a]) > key(buffers[b]); });
  return first_fit(buffers, order);
}

}  // namespace

MemoryPlan plan_memory(std::span<const BufferLifetime> buffers) {
  MemoryPlan by_size =
      plan_by_decreasing(buffers, [](const BufferLifetime& buffer) { return buffer.bytes; });
  MemoryPlan by_area = plan_by_decreasing(buffers, area);
  return by_area.arena_bytes < by_size.arena_bytes ? by_area : by_size;
}

std::int64_t liveness_bound(std::span<const BufferLifetime> buffers) {
  int steps = 0;
  for (const BufferLifetime& buffer : buffers) {
    steps = std::max(steps, buffer.last + 1);
  }
  std::vector<std::int64_t> alive(static_cast<std::size_t>(steps), 0);
  for (const BufferLifetime& buffer : buffers) {
    for (int step = buffer.first; step <= buffer.last; ++step) {
      alive[static_cast<std::size_t>(step)] += padded(buffer.bytes);
    }
  }
  return alive.empty() ? 0 : *std::max_element(alive.begin(), alive.end());
}

}  // namespace superstep::kernels
