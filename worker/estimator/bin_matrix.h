// The rows of a rank as bin numbers: what trees are grown on.
//
// Row-major, one byte per value when no feature has more than 256 bins, else two: a histogram takes
// all features of a row from one or two cache lines, whatever subset of the rows a node has, and
// consecutive updates go to different features (a column at a time would wait for its own last
// store whenever a value repeats).
//
//   const BinMatrix bins(table, features, cuts);
//   bins.visit([&](const auto* data) { data[row * bins.num_features() + feature]; });
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "worker/data/table.h"
#include "worker/estimator/cut_points.h"

namespace superstep::worker {

class BinMatrix {
 public:
  // `features` are columns of the table, one per cut; the cuts must remain valid. Throws
  // InvalidArgument for a feature of more than 65,536 bins, and for more than 2^32 - 1 rows.
  BinMatrix(const Table& table, std::span<const std::size_t> features,
            std::span<const FeatureCuts> cuts);

  std::size_t num_rows() const { return num_rows_; }
  std::size_t num_features() const { return cuts_.size(); }
  std::span<const FeatureCuts> cuts() const { return cuts_; }
  // Features' bins lie one behind the other in a histogram: [offsets[f], offsets[f + 1]).
  std::span<const std::uint32_t> offsets() const { return offsets_; }
  std::size_t total_bins() const { return offsets_.back(); }

  // Calls visitor(const std::uint8_t*) or visitor(const std::uint16_t*).
  template <typename Visitor>
  decltype(auto) visit(Visitor&& visitor) const {
    return wide_.empty() ? visitor(narrow_.data()) : visitor(wide_.data());
  }

 private:
  std::size_t num_rows_;
  std::span<const FeatureCuts> cuts_;
  std::vector<std::uint32_t> offsets_;
  std::vector<std::uint8_t> narrow_;
  std::vector<std::uint16_t> wide_;
};

}  // namespace superstep::worker
