// Privacy loss distributions of the Poisson-subsampled Gaussian mechanism, composed by FFT.
//
// The tight accountant beside RDP. One round's hockey-stick curve delta(epsilon) is known in closed
// form; it is made discrete by connecting the dots (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi
// 2022): a distribution on a grid of losses whose curve touches the exact one at every grid point
// and lies above it in between. Rounds compose by convolution, which is one FFT and a power
// (Koskela, Jalko, Honkela 2020). Adjacency: one client is added or removed; the larger of the two
// epsilons counts.
//
//   double epsilon = pld_epsilon({.sampling = 0.01, .noise = 0.7}, 120, 1e-5);    // 2.4612
//
// What the curve and the window of the FFT leave out is added to delta, so the result is an upper
// bound up to rounding. Cost: O(n log n) for n = window / grid points, about a second for a
// million.
#pragma once

#include <cstdint>

#include "worker/federated/privacy/rdp.h"

namespace superstep::worker {

struct PldOptions {
  double grid = 1e-4;           // distance of losses; doubled until the window fits in 2^23 points
  double tail_of_delta = 1e-7;  // mass outside of the window, as a part of delta
};

// Epsilon after `times` rounds; infinite when a single round's loss may exceed 700 (noise below
// about 0.04) or no grid below 1 has a window that fits. Throws InvalidArgument for a round, a
// count or a delta outside its range.
double pld_epsilon(const GaussianRound& round, std::int64_t times, double delta,
                   const PldOptions& options = {});

// Exact delta of one Gaussian mechanism (Balle and Wang 2018): the oracle for q = 1.
double gaussian_delta(double noise, double epsilon);

}  // namespace superstep::worker
