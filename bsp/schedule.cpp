#include "bsp/schedule.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace superstep::bsp {

namespace {

// Shards start on whole cache lines for every element type up to 8 bytes, so that owners do not
// write the same line.
constexpr std::int64_t kShardGranule = 64;

// Up to this many elements received per rank, one round more costs more than the extra traffic of
// sending everything to everybody.
constexpr std::int64_t kDirectAllreduceElements = 8192;

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

// The combines that reduce pieces[range] of one rank in tree order into `target`; pieces other than
// the owner's own (`own`, never written) are scratch. Returns where the sum is.
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

// Rank `owner` reduces the pieces of all ranks that lie at pieces[rank] of its address space.
void reduce_pieces(int owner, std::span<const Location> pieces, Location target, std::int64_t count,
                   Round& round) {
  if (count == 0) {
    return;
  }
  if (pieces.size() == 1) {
    round.transfers.push_back({.from = pieces[0], .to = target, .count = count});
    return;
  }
  combine_tree({0, static_cast<int>(pieces.size())}, pieces, owner, &target, count, round.combines);
}

// Every rank sends its part [offset, offset + count) to `owner`, into scratch from `scratch` on.
// Returns where the owner finds the pieces.
std::vector<Location> send_pieces(int owner, int num_ranks, std::int64_t offset, std::int64_t count,
                                  std::int64_t scratch, Round& round) {
  std::vector<Location> pieces;
  for (int rank = 0; rank < num_ranks; ++rank) {
    if (rank == owner) {
      pieces.push_back({owner, offset});
      continue;
    }
    pieces.push_back({owner, scratch});
    if (count > 0) {
      round.transfers.push_back({.from = {rank, offset}, .to = pieces.back(), .count = count});
    }
    scratch += count;
  }
  return pieces;
}

// The pieces at offsets[rank] + base of their ranks go to the same place of all other ranks.
void share_pieces(std::span<const std::int64_t> counts, std::int64_t base, Round& round) {
  const auto num_ranks = static_cast<int>(counts.size());
  const std::vector<std::int64_t> offsets = offsets_of(counts);
  for (int from = 0; from < num_ranks; ++from) {
    const auto i = static_cast<std::size_t>(from);
    for (int to = 0; to < num_ranks && counts[i] > 0; ++to) {
      if (to != from) {
        round.transfers.push_back({{from, base + offsets[i]}, {to, base + offsets[i]}, counts[i]});
      }
    }
  }
}

std::vector<std::int64_t> even_shards(int num_ranks, std::int64_t n) {
  const std::int64_t granules = (n + kShardGranule - 1) / kShardGranule;
  std::vector<std::int64_t> counts;
  counts.reserve(static_cast<std::size_t>(num_ranks));
  const auto border = [&](int rank) {
    return std::min(n, granules * rank / num_ranks * kShardGranule);
  };
  for (int rank = 0; rank < num_ranks; ++rank) {
    counts.push_back(border(rank + 1) - border(rank));
  }
  return counts;
}

// Address space: in [0, n), out [n, 2n), scratch.
AllreducePlan direct_allreduce(int num_ranks, std::int64_t n) {
  AllreducePlan plan{.schedule = empty_schedule(num_ranks, (num_ranks + 1) * n),
                     .result_offset = n};
  Round round;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::vector<Location> pieces = send_pieces(rank, num_ranks, 0, n, 2 * n, round);
    reduce_pieces(rank, pieces, {rank, n}, n, round);
  }
  plan.schedule.rounds.push_back(std::move(round));
  return plan;
}

AllreducePlan sharded_allreduce(int num_ranks, std::int64_t n) {
  AllreducePlan plan{.schedule = empty_schedule(num_ranks, 2 * n), .result_offset = n};
  const std::vector<std::int64_t> counts = even_shards(num_ranks, n);
  const std::vector<std::int64_t> offsets = offsets_of(counts);
  Round reduce;
  Round share;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    plan.schedule.extents[i] += (num_ranks - 1) * counts[i];
    const std::vector<Location> pieces =
        send_pieces(rank, num_ranks, offsets[i], counts[i], 2 * n, reduce);
    reduce_pieces(rank, pieces, {rank, n + offsets[i]}, counts[i], reduce);
  }
  share_pieces(counts, n, share);
  plan.schedule.rounds = {std::move(reduce), std::move(share)};
  return plan;
}

}  // namespace

std::int64_t Schedule::elements_sent(int rank) const {
  std::int64_t sum = 0;
  for (const Round& round : rounds) {
    for (const Transfer& transfer : round.transfers) {
      sum += transfer.from.rank == rank && transfer.to.rank != rank ? transfer.count : 0;
    }
  }
  return sum;
}

std::int64_t Schedule::elements_received(int rank) const {
  std::int64_t sum = 0;
  for (const Round& round : rounds) {
    for (const Transfer& transfer : round.transfers) {
      sum += transfer.to.rank == rank && transfer.from.rank != rank ? transfer.count : 0;
    }
  }
  return sum;
}

Schedule broadcast_schedule(int num_ranks, int root, std::int64_t n) {
  SUPERSTEP_CHECK(root >= 0 && root < num_ranks, "root out of range", root, num_ranks);
  Schedule schedule = empty_schedule(num_ranks, n);
  for (int have = 1; have < num_ranks && n > 0; have *= 2) {
    Round round;
    for (int i = 0; i < have && i + have < num_ranks; ++i) {
      const int from = (root + i) % num_ranks;
      const int to = (root + i + have) % num_ranks;
      round.transfers.push_back({{from, 0}, {to, 0}, n});
    }
    schedule.rounds.push_back(std::move(round));
  }
  return schedule;
}

Schedule allgather_schedule(std::span<const std::int64_t> counts) {
  Schedule schedule = empty_schedule(static_cast<int>(counts.size()), offsets_of(counts).back());
  Round round;
  share_pieces(counts, 0, round);
  schedule.rounds.push_back(std::move(round));
  return schedule;
}

Schedule gather_schedule(std::span<const std::int64_t> counts, int root) {
  const std::vector<std::int64_t> offsets = offsets_of(counts);
  Schedule schedule = empty_schedule(static_cast<int>(counts.size()), 0);
  Round round;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto rank = static_cast<int>(i);
    schedule.extents[i] = rank == root ? counts[i] + offsets.back() : counts[i];
    if (counts[i] > 0) {
      round.transfers.push_back(
          {{rank, 0}, {root, counts[static_cast<std::size_t>(root)] + offsets[i]}, counts[i]});
    }
  }
  schedule.rounds.push_back(std::move(round));
  return schedule;
}

ReduceScatterPlan reduce_scatter_schedule(std::span<const std::int64_t> counts) {
  const auto num_ranks = static_cast<int>(counts.size());
  const std::vector<std::int64_t> offsets = offsets_of(counts);
  const std::int64_t n = offsets.back();
  ReduceScatterPlan plan{.schedule = empty_schedule(num_ranks, n), .result_offsets = {}};
  plan.result_offsets.assign(counts.size(), n);
  Round round;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    plan.schedule.extents[i] += num_ranks * counts[i];
    const std::vector<Location> pieces =
        send_pieces(rank, num_ranks, offsets[i], counts[i], n + counts[i], round);
    reduce_pieces(rank, pieces, {rank, n}, counts[i], round);
  }
  plan.schedule.rounds.push_back(std::move(round));
  return plan;
}

AllreducePlan allreduce_schedule(int num_ranks, std::int64_t n) {
  if (num_ranks == 1 || (num_ranks - 1) * n <= kDirectAllreduceElements) {
    return direct_allreduce(num_ranks, n);
  }
  return sharded_allreduce(num_ranks, n);
}

}  // namespace superstep::bsp
