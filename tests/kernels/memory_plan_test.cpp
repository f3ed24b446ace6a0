#include "kernels/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/philox.h"

namespace superstep::kernels {
namespace {

using ::testing::ElementsAre;

bool overlap(const BufferLifetime& a, std::int64_t a_offset, const BufferLifetime& b,
             std::int64_t b_offset) {
  const bool in_time = a.first <= b.last && b.first <= a.last;
  const bool in_space = a_offset < b_offset + b.bytes && b_offset < a_offset + a.bytes;
  return in_time && in_space && a.bytes > 0 && b.bytes > 0;
}

std::vector<BufferLifetime> random_lifetimes(std::uint64_t seed, int count) {
  PhiloxStream stream(seed, stream_id("memory plan test"));
  std::vector<BufferLifetime> buffers;
  for (int i = 0; i < count; ++i) {
    const int first = static_cast<int>(stream.below(60));
    const std::int64_t bytes = static_cast<std::int64_t>(stream.below(5000));
    buffers.push_back({bytes, first, first + static_cast<int>(stream.below(12))});
  }
  return buffers;
}

TEST(MemoryPlan, OverlapsNothingThatLivesTogether) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const std::vector<BufferLifetime> buffers = random_lifetimes(seed, 80);
    const MemoryPlan plan = plan_memory(buffers);
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(plan.offsets[i] % 64, 0);
      EXPECT_LE(plan.offsets[i] + buffers[i].bytes, plan.arena_bytes);
      for (std::size_t k = 0; k < i; ++k) {
        EXPECT_FALSE(overlap(buffers[i], plan.offsets[i], buffers[k], plan.offsets[k]))
            << "seed " << seed << " buffers " << i << " and " << k;
      }
    }
  }
}

TEST(MemoryPlan, StaysNearTheLivenessBound) {
  std::int64_t planned = 0;
  std::int64_t bound = 0;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const std::vector<BufferLifetime> buffers = random_lifetimes(seed, 80);
    EXPECT_GE(plan_memory(buffers).arena_bytes, liveness_bound(buffers));
    planned += plan_memory(buffers).arena_bytes;
    bound += liveness_bound(buffers);
  }
  EXPECT_LE(planned, bound * 115 / 100);
}

TEST(MemoryPlan, ReusesMemoryOfBuffersThatAreDead) {
  const std::vector<BufferLifetime> buffers = {{100, 0, 1}, {100, 1, 2}, {100, 2, 3}};
  const MemoryPlan plan = plan_memory(buffers);
  EXPECT_THAT(plan.offsets, ElementsAre(0, 128, 0));
  EXPECT_EQ(plan.arena_bytes, 256);
  EXPECT_EQ(liveness_bound(buffers), 256);
}

TEST(MemoryPlan, FillsGapsBetweenLargerBuffers) {
  // The second and third are placed first; the small one fits below, where the first has gone.
  const std::vector<BufferLifetime> buffers = {{640, 0, 0}, {1280, 0, 2}, {64, 1, 2}, {320, 1, 1}};
  const MemoryPlan plan = plan_memory(buffers);
  EXPECT_THAT(plan.offsets, ElementsAre(1280, 0, 1600, 1280));
  EXPECT_EQ(plan.arena_bytes, 1920);
}

TEST(MemoryPlan, OfNothingIsEmpty) {
  EXPECT_EQ(plan_memory({}).arena_bytes, 0);
  EXPECT_EQ(liveness_bound({}), 0);
}

}  // namespace
}  // namespace superstep::kernels
