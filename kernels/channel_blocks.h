// Loops over images in channel blocks (kernels/layout.h), with the bits of the plain ones.
//
// A block plane is (H W, b): b channels of one sample. Sums follow kernels/channel_sums.h to the
// bit: lane l of 16 takes positions l, l + 16, ..., at most 4,096 positions before the lanes are
// folded in halves and added in double; here each lane is a register of b channels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/channel_sums.h"
#include "kernels/layout.h"

namespace superstep::kernels {

// 1 where there are no blocks, so that code compiles that never runs.
inline constexpr std::int64_t kBlockWidth = kChannelBlock > 0 ? kChannelBlock : 1;
typedef float BlockOfFloats __attribute__((vector_size(kBlockWidth * sizeof(float))));
typedef std::int32_t BlockOfInts __attribute__((vector_size(kBlockWidth * sizeof(float))));

inline BlockOfFloats load_block(const float* from) {
  BlockOfFloats block;
  std::memcpy(&block, from, sizeof(block));
  return block;
}
inline BlockOfInts all_of(std::int32_t value) {
  return BlockOfInts{} + value;
}
inline void store_block(const BlockOfFloats& block, float* to) {
  std::memcpy(to, &block, sizeof(block));
}

// Sums over the positions of one block plane, per channel, added to sums[0, b). term(position)
// gives the block of terms.
template <typename Term>
inline void add_block_sums(std::int64_t positions, const Term& term, double* sums) {
  std::array<double, kBlockWidth> totals{};
  for (std::int64_t begin = 0; begin < positions; begin += internal::kRun) {
    const std::int64_t end = std::min(positions, begin + internal::kRun);
    std::array<BlockOfFloats, internal::kLanes> lanes{};
    std::int64_t i = begin;
    for (; i + internal::kLanes <= end; i += internal::kLanes) {
      for (std::int64_t lane = 0; lane < internal::kLanes; ++lane) {
        lanes[static_cast<std::size_t>(lane)] += term(i + lane);
      }
    }
    for (std::size_t lane = 0; i < end; ++i, ++lane) {
      lanes[lane] += term(i);
    }
    for (std::size_t half = internal::kLanes / 2; half > 0; half /= 2) {
      for (std::size_t lane = 0; lane < half; ++lane) {
        lanes[lane] += lanes[lane + half];
      }
    }
    for (std::size_t c = 0; c < totals.size(); ++c) {
      totals[c] += static_cast<double>(lanes[0][c]);
    }
  }
  for (std::size_t c = 0; c < totals.size(); ++c) {
    sums[c] += totals[c];
  }
}

// Calls function(offset of the block plane, first channel) for the samples of one channel block.
template <typename Function>
inline void for_samples_of_block(const ChannelView& view, std::int64_t first_channel,
                                 const Function& function) {
  for (std::int64_t n = 0; n < view.batch; ++n) {
    function(view.offset(n, first_channel));
  }
}

// Copies between the layouts; elements of four bytes.
void to_channel_blocks(const Shape& shape, const std::byte* plain, std::byte* blocked);
void from_channel_blocks(const Shape& shape, const std::byte* blocked, std::byte* plain);

}  // namespace superstep::kernels
