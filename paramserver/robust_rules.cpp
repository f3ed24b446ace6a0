#include "paramserver/robust_rules.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

namespace {

// Calls visit(i, sorted values of element i over rows).
template <typename Visit>
void for_sorted_elements(UpdateRows rows, std::size_t size, const Visit& visit) {
  std::vector<std::int64_t> values(rows.size());
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t row = 0; row < rows.size(); ++row) {
      values[row] = rows[row][i];
    }
    std::sort(values.begin(), values.end());
    visit(i, values);
  }
}

std::size_t num_blocks(std::size_t size) {
  constexpr auto kBlock = static_cast<std::size_t>(kBlockElements);
  return (size + kBlock - 1) / kBlock;
}

// Calls visit(block, first, last) for the blocks of `size` elements.
template <typename Visit>
void for_blocks(std::size_t size, const Visit& visit) {
  constexpr auto kBlock = static_cast<std::size_t>(kBlockElements);
  for (std::size_t block = 0; block < num_blocks(size); ++block) {
    visit(block, block * kBlock, std::min(size, (block + 1) * kBlock));
  }
}

}  // namespace

void coordinate_median(UpdateRows rows, std::span<double> out) {
  SUPERSTEP_CHECK(!rows.empty(), "rows of a median");
  const std::size_t middle = rows.size() / 2;
  for_sorted_elements(
      rows, out.size(), [&](std::size_t i, const std::vector<std::int64_t>& sorted) {
        out[i] = rows.size() % 2 == 1 ? static_cast<double>(sorted[middle])
                                      : 0.5 * (static_cast<double>(sorted[middle - 1]) +
                                               static_cast<double>(sorted[middle]));
      });
}

void trimmed_mean(UpdateRows rows, std::int64_t trimmed, std::span<double> out) {
  const auto count = static_cast<std::int64_t>(rows.size());
  if (trimmed < 0 || 2 * trimmed >= count) {
    throw InvalidArgument("trimmed_mean",
                          fmt::format("trimmed at each end: got {} of {} updates, expected fewer "
                                      "than half",
                                      trimmed, count));
  }
  const double scale = 1.0 / static_cast<double>(count - 2 * trimmed);
  for_sorted_elements(
      rows, out.size(), [&](std::size_t i, const std::vector<std::int64_t>& sorted) {
        const std::int64_t sum =
            std::accumulate(sorted.begin() + trimmed, sorted.end() - trimmed, std::int64_t{0});
        out[i] = static_cast<double>(sum) * scale;
      });
}

void weighted_mean(UpdateRows rows, std::span<const double> weights, std::span<double> out) {
  SUPERSTEP_CHECK(rows.size() == weights.size(), "weights of rows", weights.size());
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::fill(out.begin(), out.end(), 0.0);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const double weight = weights[row] / total;
    if (weight != 0.0) {
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] += weight * static_cast<double>(rows[row][i]);
      }
    }
  }
}

std::vector<double> block_distances(UpdateRows rows) {
  const std::size_t size = rows.empty() ? 0 : rows.front().size();
  const std::size_t pairs = rows.size() * (rows.size() - std::min<std::size_t>(1, rows.size())) / 2;
  std::vector<double> squared(num_blocks(size) * pairs, 0.0);
  for_blocks(size, [&](std::size_t block, std::size_t first, std::size_t last) {
    std::size_t pair = block * pairs;
    for (std::size_t a = 0; a < rows.size(); ++a) {
      for (std::size_t b = a + 1; b < rows.size(); ++b, ++pair) {
        for (std::size_t i = first; i < last; ++i) {
          const double difference = static_cast<double>(rows[a][i] - rows[b][i]);
          squared[pair] += difference * difference;
        }
      }
    }
  });
  return squared;
}

std::vector<double> block_distances(UpdateRows rows, std::span<const double> center) {
  std::vector<double> squared(num_blocks(center.size()) * rows.size(), 0.0);
  for_blocks(center.size(), [&](std::size_t block, std::size_t first, std::size_t last) {
    for (std::size_t row = 0; row < rows.size(); ++row) {
      for (std::size_t i = first; i < last; ++i) {
        const double difference = static_cast<double>(rows[row][i]) - center[i];
        squared[block * rows.size() + row] += difference * difference;
      }
    }
  });
  return squared;
}

std::vector<int> krum(std::span<const double> squared, std::int64_t num_rows,
                      std::int64_t byzantine, std::int64_t selected) {
  if (byzantine < 0 || num_rows < 2 * byzantine + 3) {
    throw InvalidArgument("krum",
                          fmt::format("updates: got {} with {} byzantine ones, expected at least "
                                      "2 * {} + 3",
                                      num_rows, byzantine, byzantine));
  }
  if (selected < 1 || selected > num_rows) {
    throw InvalidArgument(
        "krum", fmt::format("selected updates: got {}, expected 1 to {}", selected, num_rows));
  }
  const auto n = static_cast<std::size_t>(num_rows);
  std::vector<std::vector<double>> distances(n);
  std::size_t pair = 0;
  for (std::size_t a = 0; a < n; ++a) {
    for (std::size_t b = a + 1; b < n; ++b, ++pair) {
      distances[a].push_back(squared[pair]);
      distances[b].push_back(squared[pair]);
    }
  }
  const auto neighbours = static_cast<std::ptrdiff_t>(num_rows - byzantine - 2);
  std::vector<double> scores;
  for (std::vector<double>& own : distances) {
    std::sort(own.begin(), own.end());
    scores.push_back(std::accumulate(own.begin(), own.begin() + neighbours, 0.0));
  }
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return scores[static_cast<std::size_t>(a)] < scores[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(selected));
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<double> weiszfeld_weights(std::span<const double> squared, double smoothing) {
  std::vector<double> weights;
  weights.reserve(squared.size());
  for (const double value : squared) {
    weights.push_back(1.0 / std::max(smoothing, std::sqrt(value)));
  }
  return weights;
}

}  // namespace superstep::paramserver
