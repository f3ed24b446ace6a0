// Which rank trains which client of a cohort. It never changes results, so measured times may
// decide.
//
//   strict   a client always belongs to its owner (ClientData::owner): its data never leave that
//            rank
//   shared   longest processing time first (Graham 1969) by predicted cost, every round anew
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "worker/federated/client_data.h"

namespace superstep::worker {

enum class DataMode : std::uint8_t { kShared, kStrict };

std::string_view name_of(DataMode mode);

// Seconds of a client as base + slope * samples, fitted by least squares to what was measured. All
// ranks feed it the same numbers.
class ClientCost {
 public:
  void add(double samples, double seconds);
  // Proportional to samples until two different sizes were seen; at least a small positive number.
  double predict(double samples) const;

 private:
  double count_ = 0.0;
  double sum_x_ = 0.0;
  double sum_y_ = 0.0;
  double sum_xx_ = 0.0;
  double sum_xy_ = 0.0;
};

// placement[i] is the rank of cohort[i]; costs[i] > 0. Ties go to the lower index and rank.
std::vector<int> place_by_cost(std::span<const double> costs, int num_ranks);
std::vector<int> place_by_owner(std::span<const std::int64_t> cohort, const ClientData& clients,
                                int num_ranks);

}  // namespace superstep::worker
