// Sums of client updates in the ring of 64-bit integers: exact, hence free of any order.
//
// A client's contribution weight * value becomes the integer nearest to weight * value * 2^f (ties
// to even) and integers are added. Integer sums do not depend on who adds first, so a round has the
// same bits for every number of ranks, threads and placement of clients. The same ring serves
// discrete noise and masks.
//
//   RingFormat ring = choose_ring({.sum_of_weights = 6000, .num_clients = 10, .value_bound = 16});
//   if (fits(ring, local, global)) add_difference(ring, 600, local, global, sums);
//   mean = sums[i] * unit(ring) / 6000;
//
// Range: |value| <= value_bound is checked before anything is added, and f is chosen so that the
// sum of all clients, roundings included, stays below 2^(bits-2): half of the ring is left for
// noise. Error of the mean: at most num_clients / 2 * 2^-f / sum_of_weights per element. A ring too
// narrow for at least kLeastFractionBits is refused.
#pragma once

#include <cstdint>
#include <span>

namespace superstep::paramserver {

inline constexpr int kLeastFractionBits = 8;
inline constexpr int kMostFractionBits = 60;

struct RingDemand {
  double sum_of_weights = 1.0;  // the most that all weights of a round can add up to
  std::int64_t num_clients = 1;
  double value_bound = 16.0;  // largest absolute value of an element of an update
  int bits = 64;              // width of the ring, sign included: 16 to 64
};

struct RingFormat {
  int bits = 64;
  int fraction_bits = 0;
  double value_bound = 0.0;
  friend bool operator==(const RingFormat&, const RingFormat&) = default;
};

// Throws InvalidArgument when the ring cannot hold the demand; the message says how many bits
// would.
RingFormat choose_ring(const RingDemand& demand);

// The value of 1 in the ring.
double unit(const RingFormat& ring);

// Whether every element is finite and within the bound. NaN is not.
bool fits(const RingFormat& ring, std::span<const float> local, std::span<const float> global);
bool fits(const RingFormat& ring, std::span<const float> update);

// sums[i] += round(weight * (local[i] - global[i]) * 2^f). The difference is exact in double.
void add_difference(const RingFormat& ring, double weight, std::span<const float> local,
                    std::span<const float> global, std::span<std::int64_t> sums);
// sums[i] += round(weight * update[i] * 2^f).
void add_update(const RingFormat& ring, double weight, std::span<const float> update,
                std::span<std::int64_t> sums);

}  // namespace superstep::paramserver
