// Tables that say which rank computes which slots; none of them changes a result.
//
//   SlotPlacement::kContiguous    rank k of p gets slots [kM/p, (k+1)M/p)
//   SlotPlacement::kRandom        dealt anew in every superstep, keyed by the seed (a test of
//                                 placement invariance)
//   SlotPlacement::kMeasured      contiguous, in proportion to the speed that each rank showed
//
// Work stealing is the server's (paramserver::SlotDealing) and starts from the contiguous table.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bsp/world.h"

namespace superstep::worker {

enum class SlotPlacement : std::uint8_t { kContiguous, kRandom, kMeasured };

std::vector<int> random_placement(std::uint64_t seed, std::int64_t superstep, int num_slots,
                                  int num_ranks);

// Contiguous, rank r with a share of the slots near weights[r] / sum, at least none; all weights
// positive.
std::vector<int> weighted_placement(int num_slots, std::span<const double> weights);

// Finds out how fast the ranks are and proposes placements. The same on every rank.
class PlacementMeter {
 public:
  // Supersteps between two decisions: a placement costs a new exchange plan, and its batches cannot
  // be assembled ahead.
  static constexpr std::int64_t kSuperstepsPerDecision = 16;

  // This rank computed `num_slots` slots in `seconds`.
  void add(std::int64_t num_slots, double seconds);
  // Whether this superstep ends with a decision.
  bool is_due() const { return supersteps_ >= kSuperstepsPerDecision; }
  // Collective, one allgather of a number per rank. Empty: the present placement is as good, that
  // is, the slowest rank would not gain 5 %.
  std::vector<int> decide(bsp::World& world, std::span<const int> present);

 private:
  std::int64_t supersteps_ = 0;
  std::int64_t slots_ = 0;
  double seconds_ = 0.0;
  double slot_seconds_ = 0.0;  // of the last period in which this rank had slots
};

}  // namespace superstep::worker
