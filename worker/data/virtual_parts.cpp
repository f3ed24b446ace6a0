#include "worker/data/virtual_parts.h"

#include <numeric>

namespace superstep::worker {

double sum_over_parts(bsp::World& world, std::span<const double> mine) {
  const std::vector<double> all = allgather_parts<double>(world, mine);
  return std::accumulate(all.begin(), all.end(), 0.0);
}

}  // namespace superstep::worker
