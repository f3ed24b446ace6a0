#include "worker/estimator/bin_matrix.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::worker {

namespace {

constexpr int kNarrowBins = 256;
constexpr int kWideBins = 65'536;

template <typename Bin>
void fill_bins(const Table& table, std::span<const std::size_t> features,
               std::span<const FeatureCuts> cuts, std::vector<Bin>& bins) {
  const std::size_t width = features.size();
  for (std::size_t f = 0; f < width; ++f) {
    const std::vector<float>& values = table.columns[features[f]].values;
    for (std::size_t row = 0; row < values.size(); ++row) {
      bins[row * width + f] = static_cast<Bin>(cuts[f].bin_of(values[row]));
    }
  }
}

}  // namespace

BinMatrix::BinMatrix(const Table& table, std::span<const std::size_t> features,
                     std::span<const FeatureCuts> cuts)
    : num_rows_(static_cast<std::size_t>(table.num_rows)), cuts_(cuts) {
  if (num_rows_ > std::numeric_limits<std::uint32_t>::max()) {
    throw InvalidArgument("BinMatrix", fmt::format("rows of one rank: got {}, expected less than "
                                                   "2^32; use more ranks",
                                                   num_rows_));
  }
  int most = 0;
  offsets_.push_back(0);
  for (std::size_t f = 0; f < cuts.size(); ++f) {
    most = std::max(most, cuts[f].all_bins());
    if (cuts[f].all_bins() > kWideBins) {
      throw InvalidArgument(
          "BinMatrix", fmt::format("bins of column \"{}\": got {}, expected at "
                                   "most {}",
                                   table.columns[features[f]].name, cuts[f].all_bins(), kWideBins));
    }
    offsets_.push_back(offsets_.back() + static_cast<std::uint32_t>(cuts[f].all_bins()));
  }
  if (most <= kNarrowBins) {
    narrow_.resize(num_rows_ * cuts.size());
    fill_bins(table, features, cuts, narrow_);
  } else {
    wide_.resize(std::max<std::size_t>(num_rows_ * cuts.size(), 1));  // not empty: see visit
    fill_bins(table, features, cuts, wide_);
  }
}

}  // namespace superstep::worker
