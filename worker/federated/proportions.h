// Random proportions that sum to one, drawn in the log domain, and cuts that follow them.
//
//   std::vector<double> p = dirichlet_proportions(100, 0.1, stream);
//   std::vector<std::int64_t> cuts = cut_points(6000, p);      // 101 ascending points, 0 to 6000
//
// Draws go through the C library's log, exp and cos and have the same bits for one C library.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/philox.h"

namespace superstep::worker {

// Log of a Gamma(alpha, 1) variate (Marsaglia and Tsang 2000; for alpha < 1 with their boost in the
// log domain, so that it never underflows).
double log_gamma_variate(double alpha, PhiloxStream& stream);

std::vector<double> dirichlet_proportions(std::int64_t count, double alpha, PhiloxStream stream);
// Proportional to exp(deviation * normal).
std::vector<double> log_normal_proportions(std::int64_t count, double deviation,
                                           PhiloxStream stream);

// count + 1 points from 0 to `total`, rounded from the cumulative proportions.
std::vector<std::int64_t> cut_points(std::int64_t total, std::span<const double> proportions);

}  // namespace superstep::worker
