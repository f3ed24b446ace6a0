// More than 2^31 elements: counts leave what an int of MPI holds.
#include <cstdint>
#include <span>

#include "bsp/shared_memory.h"
#include "bsp/world.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

constexpr std::int64_t kElements = (std::int64_t{1} << 31) + 12'345;

std::uint8_t value_at(std::int64_t i) {
  return static_cast<std::uint8_t>((static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15ULL) >> 56);
}

SUPERSTEP_WORLD_TEST(LargeMessage, BroadcastsMoreElementsThanAnIntCounts) {
  internal::SharedMapping memory = internal::SharedMapping::anonymous(kElements);
  const std::span<std::uint8_t> data(reinterpret_cast<std::uint8_t*>(memory.data()),
                                     static_cast<std::size_t>(kElements));
  if (world.rank() == 0) {
    for (std::int64_t i = 0; i < kElements; ++i) {
      data[static_cast<std::size_t>(i)] = value_at(i);
    }
  }
  world.broadcast(data, 0);
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < kElements; ++i) {
    wrong += data[static_cast<std::size_t>(i)] == value_at(i) ? 0 : 1;
  }
  EXPECT_EQ(wrong, 0);
  world.sync();
}

}  // namespace
}  // namespace superstep::bsp
