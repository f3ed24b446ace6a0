#include "paramserver/ring.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep::paramserver {

namespace {

void require_demand(const RingDemand& demand) {
  constexpr auto kWhere = "choose_ring";
  if (demand.bits < 16 || demand.bits > 64) {
    throw InvalidArgument(kWhere, fmt::format("bits: got {}, expected 16 to 64", demand.bits));
  }
  if (!(demand.sum_of_weights > 0.0) || !std::isfinite(demand.sum_of_weights)) {
    throw InvalidArgument(kWhere,
                          fmt::format("sum_of_weights: got {}, expected a finite number above 0",
                                      demand.sum_of_weights));
  }
  if (demand.num_clients < 1) {
    throw InvalidArgument(
        kWhere, fmt::format("num_clients: got {}, expected at least 1", demand.num_clients));
  }
  if (!(demand.value_bound > 0.0) || !std::isfinite(demand.value_bound)) {
    throw InvalidArgument(kWhere, fmt::format("value_bound: got {}, expected a finite number "
                                              "above 0",
                                              demand.value_bound));
  }
}

// The largest f with W * bound * 2^f + n / 2 <= 2^(bits - 2).
int most_fraction_bits(const RingDemand& demand, int bits) {
  const double room = std::ldexp(1.0, bits - 2) - 0.5 * static_cast<double>(demand.num_clients);
  if (room <= 0.0) {
    return -1;
  }
  const double most = room / (demand.sum_of_weights * demand.value_bound);
  return std::min(static_cast<int>(std::floor(std::log2(most))), kMostFractionBits);
}

// Nearest, ties to even: the default rounding mode.
std::int64_t to_ring(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

}  // namespace

RingFormat choose_ring(const RingDemand& demand) {
  require_demand(demand);
  const int fraction_bits = most_fraction_bits(demand, demand.bits);
  if (fraction_bits >= kLeastFractionBits) {
    return {.bits = demand.bits, .fraction_bits = fraction_bits, .value_bound = demand.value_bound};
  }
  int enough = demand.bits;
  while (enough < 64 && most_fraction_bits(demand, enough) < kLeastFractionBits) {
    ++enough;
  }
  const bool possible = most_fraction_bits(demand, enough) >= kLeastFractionBits;
  throw InvalidArgument(
      "choose_ring",
      fmt::format("the integer range is too small for the cohort: {} bits leave {} fraction bits "
                  "for {} clients with weights up to {} in all and values up to {}, expected at "
                  "least {}. {}",
                  demand.bits, std::max(fraction_bits, 0), demand.num_clients,
                  demand.sum_of_weights, demand.value_bound, kLeastFractionBits,
                  possible ? fmt::format("A ring of {} bits would do", enough)
                           : std::string("Lower the bound of values or the weights")));
}

double unit(const RingFormat& ring) {
  return std::ldexp(1.0, -ring.fraction_bits);
}

bool fits(const RingFormat& ring, std::span<const float> local, std::span<const float> global) {
  SUPERSTEP_CHECK(local.size() == global.size(), "elements of an update", local.size(),
                  global.size());
  const float* __restrict a = local.data();
  const float* __restrict b = global.data();
  int misfits = 0;
  for (std::size_t i = 0; i < local.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    misfits |= static_cast<int>(!(std::abs(difference) <= ring.value_bound));
  }
  return misfits == 0;
}

bool fits(const RingFormat& ring, std::span<const float> update) {
  int misfits = 0;
  for (const float value : update) {
    misfits |= static_cast<int>(!(std::abs(static_cast<double>(value)) <= ring.value_bound));
  }
  return misfits == 0;
}

void add_difference(const RingFormat& ring, double weight, std::span<const float> local,
                    std::span<const float> global, std::span<std::int64_t> sums) {
  SUPERSTEP_CHECK(local.size() == global.size() && local.size() == sums.size(),
                  "elements of an update", local.size(), global.size(), sums.size());
  const double factor = std::ldexp(weight, ring.fraction_bits);
  const float* __restrict a = local.data();
  const float* __restrict b = global.data();
  std::int64_t* __restrict out = sums.data();
  for (std::size_t i = 0; i < local.size(); ++i) {
    out[i] += to_ring(factor * (static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
}

void add_update(const RingFormat& ring, double weight, std::span<const float> update,
                std::span<std::int64_t> sums) {
  SUPERSTEP_CHECK(update.size() == sums.size(), "elements of an update", update.size(),
                  sums.size());
  const double factor = std::ldexp(weight, ring.fraction_bits);
  const float* __restrict in = update.data();
  std::int64_t* __restrict out = sums.data();
  for (std::size_t i = 0; i < update.size(); ++i) {
    out[i] += to_ring(factor * static_cast<double>(in[i]));
  }
}

}  // namespace superstep::paramserver
