#include "worker/recheck_verdict.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "base/check.h"

namespace superstep::worker {

namespace {

using Kind = RecheckVerdict::Kind;

// What one rank came to.
struct Testimony {
  int rank = 0;
  std::vector<Hash128> hashes;

  std::size_t count(const Hash128& hash) const {
    return static_cast<std::size_t>(std::count(hashes.begin(), hashes.end(), hash));
  }
  bool contradicts_itself() const { return count(hashes.front()) < hashes.size(); }
};

// In the order of the ranks' first computations.
std::vector<Testimony> testimonies(std::span<const Computation> computations) {
  std::vector<Testimony> all;
  for (const Computation& one : computations) {
    auto found = std::find_if(all.begin(), all.end(),
                              [&](const Testimony& other) { return other.rank == one.rank; });
    if (found == all.end()) {
      found = all.insert(all.end(), {.rank = one.rank, .hashes = {}});
    }
    found->hashes.push_back(one.hash);
  }
  return all;
}

// Values that two ranks came to.
std::vector<Hash128> confirmed(std::span<const Testimony> all) {
  std::map<Hash128, std::set<int>> ranks_of;
  for (const Testimony& one : all) {
    for (const Hash128& hash : one.hashes) {
      ranks_of[hash].insert(one.rank);
    }
  }
  std::vector<Hash128> found;
  for (const auto& [hash, ranks] : ranks_of) {
    if (ranks.size() > 1) {
      found.push_back(hash);
    }
  }
  return found;
}

RecheckVerdict judge_alone(const Testimony& only) {
  const bool repeats = std::any_of(only.hashes.begin(), only.hashes.end(),
                                   [&](const Hash128& hash) { return only.count(hash) > 1; });
  return {.kind = repeats ? Kind::kTransient : Kind::kPersistent, .rank = only.rank};
}

RecheckVerdict undecided(std::span<const Testimony> suspects) {
  return {.kind = Kind::kUndecided, .rank = suspects[0].rank, .other = suspects[1].rank};
}

}  // namespace

RecheckVerdict judge(std::span<const Computation> computations) {
  const std::vector<Testimony> all = testimonies(computations);
  SUPERSTEP_CHECK(computations.size() > 1, "computations to compare", computations.size());
  if (all.size() == 1) {
    return judge_alone(all.front());
  }
  const std::vector<Hash128> right = confirmed(all);
  std::vector<Testimony> suspects;
  for (const Testimony& one : all) {
    const bool is_suspect = right.size() == 1 ? one.count(right.front()) < one.hashes.size()
                                              : right.empty() && one.contradicts_itself();
    if (is_suspect) {
      suspects.push_back(one);
    }
  }
  if (suspects.size() != 1) {
    return undecided(suspects.empty() ? all : suspects);
  }
  const Testimony& culprit = suspects.front();
  const bool was_right = !right.empty() && culprit.count(right.front()) > 0;
  return {.kind = was_right ? Kind::kTransient : Kind::kPersistent, .rank = culprit.rank};
}

}  // namespace superstep::worker
