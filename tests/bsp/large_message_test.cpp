// More than 2^31 elements: counts leave what an int of MPI holds. Two ranks; up to 11 GiB of
// memory.
#include <array>
#include <chrono>
#include <cstdint>
#include <span>

#include "bsp/coarray.h"
#include "bsp/shared_memory.h"
#include "bsp/world.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

constexpr std::int64_t kElements = (std::int64_t{1} << 31) + 12'345;
// A rank waits while the other one fills or adds up gigabytes, on a busy machine.
constexpr std::chrono::milliseconds kDeadline{120'000};
constexpr std::int64_t kFew = 1'001;
constexpr std::array<std::int64_t, 2> kCounts = {kElements, kFew};

// Pages that nobody touched cost nothing.
class Bytes {
 public:
  explicit Bytes(std::int64_t size)
      : memory_(internal::SharedMapping::anonymous(size)),
        span_(reinterpret_cast<std::uint8_t*>(memory_.data()), static_cast<std::size_t>(size)) {}
  std::span<std::uint8_t> span() const { return span_; }

 private:
  internal::SharedMapping memory_;
  std::span<std::uint8_t> span_;
};

std::uint8_t value_at(std::int64_t i) {
  return static_cast<std::uint8_t>((static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15ULL) >> 56);
}

void fill(std::span<std::uint8_t> data, std::int64_t first) {
  for (std::uint8_t& value : data) {
    value = value_at(first++);
  }
}

// Elements that are not factor * value_at(their index).
std::int64_t num_wrong(std::span<const std::uint8_t> data, std::int64_t first, int factor = 1) {
  std::int64_t wrong = 0;
  for (const std::uint8_t value : data) {
    wrong += value == static_cast<std::uint8_t>(factor * value_at(first++)) ? 0 : 1;
  }
  return wrong;
}

SUPERSTEP_WORLD_TEST(LargeMessage, BroadcastsMoreElementsThanAnIntCounts) {
  world.set_deadline(kDeadline);
  const Bytes data(kElements);
  if (world.rank() == 0) {
    fill(data.span(), 0);
  }
  world.broadcast(data.span(), 0);
  EXPECT_EQ(num_wrong(data.span(), 0), 0);
  world.sync();
}

SUPERSTEP_WORLD_TEST(LargeMessage, AllgathersMoreElementsThanAnIntCounts) {
  world.set_deadline(kDeadline);
  const std::int64_t begin = world.rank() == 0 ? 0 : kElements;
  const Bytes mine(kCounts[static_cast<std::size_t>(world.rank())]);
  const Bytes all(kElements + kFew);
  fill(mine.span(), begin);
  world.allgather(std::span<const std::uint8_t>(mine.span()), all.span(), kCounts);
  EXPECT_EQ(num_wrong(all.span(), 0), 0);
  world.sync();
}

// Bytes add up modulo 256.
SUPERSTEP_WORLD_TEST(LargeMessage, ReduceScattersMoreElementsThanAnIntCounts) {
  world.set_deadline(kDeadline);
  const std::int64_t begin = world.rank() == 0 ? 0 : kElements;
  const Bytes all(kElements + kFew);
  const Bytes mine(kCounts[static_cast<std::size_t>(world.rank())]);
  fill(all.span(), 0);
  world.reduce_scatter(std::span<const std::uint8_t>(all.span()), mine.span(), kCounts,
                       ReduceOp::kSum);
  EXPECT_EQ(num_wrong(mine.span(), begin, world.size()), 0);
  world.sync();
}

SUPERSTEP_WORLD_TEST(LargeMessage, PutsMoreElementsThanAnIntCounts) {
  world.set_deadline(kDeadline);
  Coarray<std::uint8_t> array(world, world.rank() == 1 ? kElements : kFew);
  if (world.rank() == 0) {
    const Bytes mine(kElements);
    fill(mine.span(), 0);
    array(1)[{0, kElements}] = std::span<const std::uint8_t>(mine.span());
  }
  world.sync();
  if (world.rank() == 1) {
    EXPECT_EQ(num_wrong(array.local(), 0), 0);
  }
  world.sync();
}

}  // namespace
}  // namespace superstep::bsp
