#include "worker/federated/placement.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace superstep::worker {

std::string_view name_of(DataMode mode) {
  return mode == DataMode::kShared ? "shared" : "strict";
}

void ClientCost::add(double samples, double seconds) {
  count_ += 1.0;
  sum_x_ += samples;
  sum_y_ += seconds;
  sum_xx_ += samples * samples;
  sum_xy_ += samples * seconds;
}

double ClientCost::predict(double samples) const {
  constexpr double kLeast = 1e-9;
  const double spread = count_ * sum_xx_ - sum_x_ * sum_x_;
  if (spread <= 1e-9 * count_ * sum_xx_) {
    return std::max(samples, kLeast);
  }
  const double slope = (count_ * sum_xy_ - sum_x_ * sum_y_) / spread;
  const double base = (sum_y_ - slope * sum_x_) / count_;
  return std::max(base + slope * samples, kLeast);
}

std::vector<int> place_by_cost(std::span<const double> costs, int num_ranks) {
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return costs[a] > costs[b]; });
  using Load = std::pair<double, int>;
  std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    loads.emplace(0.0, rank);
  }
  std::vector<int> placement(costs.size());
  for (const std::size_t i : order) {
    const auto [load, rank] = loads.top();
    loads.pop();
    placement[i] = rank;
    loads.emplace(load + costs[i], rank);
  }
  return placement;
}

std::vector<int> place_by_owner(std::span<const std::int64_t> cohort, const ClientData& clients,
                                int num_ranks) {
  std::vector<int> placement;
  placement.reserve(cohort.size());
  for (const std::int64_t client : cohort) {
    placement.push_back(clients.owner(client, num_ranks));
  }
  return placement;
}

}  // namespace superstep::worker
