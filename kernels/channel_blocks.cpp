#include "kernels/channel_blocks.h"

namespace superstep::kernels {
namespace {

// Positions that are moved together, so that both sides stay in first-level cache.
constexpr std::int64_t kTile = 64;

template <typename Move>
void for_tiles(const Shape& shape, const Move& move) {
  const std::int64_t plane = shape[2] * shape[3];
  for (std::int64_t block = 0; block < shape[0] * shape[1] / kBlockWidth; ++block) {
    const std::int64_t offset = block * kBlockWidth * plane;
    for (std::int64_t begin = 0; begin < plane; begin += kTile) {
      move(offset, begin, std::min(plane, begin + kTile), plane);
    }
  }
}

}  // namespace

void to_channel_blocks(const Shape& shape, const std::byte* plain, std::byte* blocked) {
  const auto* from = reinterpret_cast<const std::uint32_t*>(plain);
  auto* to = reinterpret_cast<std::uint32_t*>(blocked);
  for_tiles(shape,
            [&](std::int64_t offset, std::int64_t begin, std::int64_t end, std::int64_t plane) {
              for (std::int64_t c = 0; c < kBlockWidth; ++c) {
                for (std::int64_t i = begin; i < end; ++i) {
                  to[offset + i * kBlockWidth + c] = from[offset + c * plane + i];
                }
              }
            });
}

void from_channel_blocks(const Shape& shape, const std::byte* blocked, std::byte* plain) {
  const auto* from = reinterpret_cast<const std::uint32_t*>(blocked);
  auto* to = reinterpret_cast<std::uint32_t*>(plain);
  for_tiles(shape,
            [&](std::int64_t offset, std::int64_t begin, std::int64_t end, std::int64_t plane) {
              for (std::int64_t c = 0; c < kBlockWidth; ++c) {
                for (std::int64_t i = begin; i < end; ++i) {
                  to[offset + c * plane + i] = from[offset + i * kBlockWidth + c];
                }
              }
            });
}

}  // namespace superstep::kernels
