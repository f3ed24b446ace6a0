#include "base/aligned.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <gtest/gtest.h>

namespace superstep {
namespace {

TEST(PaddedSize, RoundsUpToWholeCacheLines) {
  EXPECT_EQ(padded_bytes(0), 0);
  EXPECT_EQ(padded_bytes(1), 64);
  EXPECT_EQ(padded_bytes(64), 64);
  EXPECT_EQ(padded_bytes(65), 128);
  EXPECT_EQ(padded_size<float>(1), 16);
  EXPECT_EQ(padded_size<float>(17), 32);
  EXPECT_EQ(padded_size<double>(8), 8);
  EXPECT_EQ(padded_size<std::uint8_t>(1'000), 1'024);
}

TEST(AlignedBuffer, StartsOnSixtyFourBytesAtEverySize) {
  for (std::int64_t size = 1; size <= 300; ++size) {
    const AlignedBuffer<float> buffer(size);
    EXPECT_TRUE(is_aligned(buffer.data())) << size;
    EXPECT_EQ(buffer.size(), size);
    EXPECT_EQ(static_cast<std::int64_t>(buffer.padded_span().size()), padded_size<float>(size));
  }
}

TEST(AlignedBuffer, IsZeroIncludingTheTail) {
  // The dirtied memory goes back to the allocator, which hands it out again.
  {
    AlignedBuffer<float> dirty(100);
    std::ranges::fill(dirty.padded_span(), 1.0F);
  }
  const AlignedBuffer<float> buffer(100);
  EXPECT_TRUE(std::ranges::all_of(buffer.padded_span(), [](float x) { return x == 0.0F; }));
}

TEST(AlignedBuffer, TailIsZeroEvenWhenTheRestIsNot) {
  {
    AlignedBuffer<float> dirty(100);
    std::ranges::fill(dirty.padded_span(), 1.0F);
  }
  const AlignedBuffer<float> buffer(100, Fill::kTailOnly);
  const auto tail = buffer.padded_span().subspan(100);
  EXPECT_EQ(tail.size(), 12U);
  EXPECT_TRUE(std::ranges::all_of(tail, [](float x) { return x == 0.0F; }));
}

TEST(AlignedBuffer, MovesWithoutMovingTheMemory) {
  AlignedBuffer<double> a(10);
  a[3] = 2.5;
  const double* address = a.data();
  AlignedBuffer<double> b = std::move(a);
  EXPECT_EQ(b.data(), address);
  EXPECT_EQ(b[3], 2.5);
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): the state is documented
  b = AlignedBuffer<double>(4);
  EXPECT_EQ(b.size(), 4);
  EXPECT_EQ(b.bytes(), 64);
  static_assert(!std::is_copy_constructible_v<AlignedBuffer<double>>);
}

TEST(AlignedBuffer, EmptyBufferOwnsNothing) {
  const AlignedBuffer<float> buffer(0);
  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_TRUE(buffer.span().empty());
  EXPECT_EQ(buffer.bytes(), 0);
}

TEST(AlignedBuffer, ImpossibleSizesAreRefused) {
  EXPECT_THROW(AlignedBuffer<float>(-1), InvalidArgument);
  EXPECT_THROW(AlignedBuffer<double>(INT64_MAX / 8), InvalidArgument);
}

}  // namespace
}  // namespace superstep
