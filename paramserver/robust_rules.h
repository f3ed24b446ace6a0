// Aggregation that a few malicious or broken clients cannot steer.
//
// Rows are the clients' updates in the ring (paramserver/ring.h) on one shard, all of one length,
// in the order of the cohort. Results are in the ring's unit too, as doubles; sums are exact
// integers, so trimming nothing is the mean bit for bit.
//
//   median          per element (Yin et al. 2018)
//   trimmed mean    per element, without the k largest and the k smallest (Yin et al. 2018)
//   Krum            the update with the smallest sum of squared distances to its n - f - 2 nearest
//                   others; needs n >= 2 f + 3 (Blanchard et al. 2017). Multi-Krum: the mean of the
//                   best m
//   geometric       the point with the least sum of distances, by smoothed Weiszfeld iterations
//   median          (Pillutla, Kakade, Harchaoui 2022)
//
// The last two need distances of whole updates: every owner adds up its blocks of 4,096 elements
// (block_distances), and sums of blocks in their order do not depend on the number of shards.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace superstep::paramserver {

using UpdateRows = std::span<const std::span<const std::int64_t>>;

// out[i] is the median of row[i] over rows; the mean of the middle two for an even number.
void coordinate_median(UpdateRows rows, std::span<double> out);

// Mean of what is left without `trimmed` values at each end. Throws InvalidArgument unless
// 2 * trimmed < rows.
void trimmed_mean(UpdateRows rows, std::int64_t trimmed, std::span<double> out);

// Weighted mean; weights need not sum to one. Rows of weight zero count for nothing.
void weighted_mean(UpdateRows rows, std::span<const double> weights, std::span<double> out);

// Squared distances between all pairs i < j (row-major upper triangle), one group of n (n - 1) / 2
// numbers per block of kBlockElements elements.
std::vector<double> block_distances(UpdateRows rows);
// The same to `center` (one number per row and block).
std::vector<double> block_distances(UpdateRows rows, std::span<const double> center);

// The `selected` rows of the best score, ascending; `squared` are the distances of all pairs. Ties
// go to the lower row. Throws InvalidArgument unless n >= 2 byzantine + 3 and 1 <= selected <= n.
std::vector<int> krum(std::span<const double> squared, std::int64_t num_rows,
                      std::int64_t byzantine, std::int64_t selected);

// Weights of one Weiszfeld iteration: 1 / max(smoothing, distance).
std::vector<double> weiszfeld_weights(std::span<const double> squared, double smoothing);

}  // namespace superstep::paramserver
