// The maximum of one pooling window for a block of channels, and where it is.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/channel_blocks.h"
#include "kernels/window.h"

namespace superstep::kernels {

// `position` is the window's column in the table of internal::max_pool_positions;
// value_at(position) gives a block. Writes a block each to y and argmax. The first one on ties; a
// NaN counts as the maximum.
template <typename ValueAt>
inline void max_of_window(const Window& window, const std::int32_t* position,
                          const ValueAt& value_at, float* y, std::int32_t* argmax) {
  BlockOfFloats best = value_at(*position);
  BlockOfInts best_position = all_of(*position);
  for (std::int64_t tap = 1; tap < window.taps(); ++tap) {
    position += window.output_plane();
    const BlockOfFloats value = value_at(*position);
    const BlockOfInts larger = ~(value <= best) & (best == best);  // a NaN replaces and stays
    best = larger ? value : best;
    best_position = larger ? all_of(*position) : best_position;
  }
  store_block(best, y);
  std::memcpy(argmax, &best_position, sizeof(best_position));
}

}  // namespace superstep::kernels
