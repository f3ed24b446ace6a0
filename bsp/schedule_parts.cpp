#include "bsp/schedule_parts.h"

#include <numeric>

#include "base/check.h"

namespace superstep::bsp::internal {

std::vector<std::int64_t> offsets_of(std::span<const std::int64_t> counts) {
  std::vector<std::int64_t> offsets(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  return offsets;
}

Schedule empty_schedule(int num_ranks, std::int64_t extent) {
  SUPERSTEP_CHECK(num_ranks > 0, "a schedule needs ranks", num_ranks);
  return {.num_ranks = num_ranks,
          .extents = std::vector<std::int64_t>(static_cast<std::size_t>(num_ranks), extent),
          .rounds = {}};
}

Location combine_tree(SlotRange range, std::span<const Location> pieces, int own,
                      const Location* target, std::int64_t count, std::vector<Combine>& combines) {
  if (range.length() == 1) {
    return pieces[static_cast<std::size_t>(range.begin)];
  }
  const int middle = split_point(range);
  const Location left = combine_tree({range.begin, middle}, pieces, own, nullptr, count, combines);
  const Location right = combine_tree({middle, range.end}, pieces, own, nullptr, count, combines);
  const bool left_is_own = middle == range.begin + 1 && range.begin == own;
  const Location result = target != nullptr ? *target : (left_is_own ? right : left);
  combines.push_back({.target = result, .left = left, .right = right, .count = count});
  return result;
}

}  // namespace superstep::bsp::internal
