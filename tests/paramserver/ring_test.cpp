#include "paramserver/ring.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::paramserver {
namespace {

TEST(Ring, ChoosesTheMostFractionBitsThatLeaveHalfOfTheRing) {
  // 6000 * 16 = 96000 < 2^17: 2^62 / 96000 is 2^45.4 or so.
  const RingFormat ring =
      choose_ring({.sum_of_weights = 6000, .num_clients = 10, .value_bound = 16});
  EXPECT_EQ(ring.fraction_bits, 45);
  EXPECT_LE(6000.0 * 16.0 / unit(ring) + 5.0, 0x1p62);
  EXPECT_GT(6000.0 * 16.0 / unit(ring) * 2.0, 0x1p62);
}

// 32 bits: 2^30 - n/2 must hold n * bound * 2^8, so n = 2^22 / bound is just too many.
TEST(Ring, RefusesOneClientMoreThanFits) {
  constexpr std::int64_t kMost = 1 << 20;
  RingDemand demand{
      .sum_of_weights = kMost - 1, .num_clients = kMost - 1, .value_bound = 4.0, .bits = 32};
  const double room = 0x1p30 - 0.5 * static_cast<double>(demand.num_clients);
  const auto fit = static_cast<std::int64_t>(std::floor(room / (4.0 * 256.0)));
  demand.sum_of_weights = static_cast<double>(fit);
  EXPECT_EQ(choose_ring(demand).fraction_bits, kLeastFractionBits);
  demand.sum_of_weights = static_cast<double>(fit + 1);
  try {
    choose_ring(demand);
    FAIL() << "one more must not fit";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("integer range is too small for the cohort"),
              std::string::npos);
    EXPECT_NE(std::string(error.what()).find("A ring of 33 bits would do"), std::string::npos)
        << error.what();
  }
}

TEST(Ring, RoundsToTheNearestIntegerTiesToEven) {
  const RingFormat ring{.bits = 64, .fraction_bits = 1, .value_bound = 100.0};
  const std::vector<float> update = {0.25F, 0.75F, 1.25F, -0.25F, -0.75F, 0.3F};
  std::vector<std::int64_t> sums(update.size(), 0);
  add_update(ring, 1.0, update, sums);
  EXPECT_EQ(sums, (std::vector<std::int64_t>{0, 2, 2, 0, -2, 1}));
}

TEST(Ring, MeanOfOneClientGivesItsModelBackExactly) {
  const RingFormat ring = choose_ring({.sum_of_weights = 600, .value_bound = 16});
  std::vector<float> global;
  std::vector<float> local;
  for (int i = 1; i < 2000; ++i) {
    global.push_back(0.05F * std::sin(static_cast<float>(i)));
    local.push_back(global.back() + 0.003F * std::cos(static_cast<float>(i * i)));
  }
  std::vector<std::int64_t> sums(global.size(), 0);
  add_difference(ring, 600.0, local, global, sums);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double mean = static_cast<double>(sums[i]) * (unit(ring) / 600.0);
    EXPECT_EQ(static_cast<float>(static_cast<double>(global[i]) + mean), local[i]) << i;
  }
}

TEST(Ring, KnowsWhatDoesNotFit) {
  const RingFormat ring{.bits = 64, .fraction_bits = 20, .value_bound = 2.0};
  const std::vector<float> zero = {0.0F, 0.0F};
  EXPECT_TRUE(fits(ring, std::vector<float>{2.0F, -2.0F}, zero));
  for (const float bad : {2.0001F, -2.0001F, std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    EXPECT_FALSE(fits(ring, std::vector<float>{0.0F, bad}, zero)) << bad;
    EXPECT_FALSE(fits(ring, std::vector<float>{bad, 0.0F})) << bad;
  }
}

}  // namespace
}  // namespace superstep::paramserver
