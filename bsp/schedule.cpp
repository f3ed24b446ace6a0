#include "bsp/schedule.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "bsp/schedule_parts.h"
#include "bsp/tree_schedules.h"

namespace superstep::bsp {

namespace {

using internal::combine_tree;
using internal::empty_schedule;
using internal::offsets_of;

// Shards start on whole cache lines for every element type up to 8 bytes, so that owners do not
// write the same line.
constexpr std::int64_t kShardGranule = 64;

// Up to this many elements received per rank, one round more costs more than the extra traffic of
// sending everything to everybody.
constexpr std::int64_t kDirectAllreduceElements = 8192;

// Up to this many ranks, everybody sends to everybody in one round. With more of them a rank would
// start that many messages at once, which costs more than ceil(log2 p) rounds do.
constexpr int kMostDirectRanks = 64;

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

std::vector<RankTraffic> traffic_of(const Schedule& schedule) {
  std::vector<RankTraffic> traffic(static_cast<std::size_t>(schedule.num_ranks));
  for (const Round& round : schedule.rounds) {
    for (const Transfer& transfer : round.transfers) {
      if (transfer.from.rank != transfer.to.rank) {
        RankTraffic& sender = traffic[static_cast<std::size_t>(transfer.from.rank)];
        sender.elements_sent += transfer.count;
        ++sender.messages_sent;
        traffic[static_cast<std::size_t>(transfer.to.rank)].elements_received += transfer.count;
      }
    }
  }
  return traffic;
}

std::int64_t Schedule::elements_sent(int rank) const {
  return traffic_of(*this)[static_cast<std::size_t>(rank)].elements_sent;
}

std::int64_t Schedule::elements_received(int rank) const {
  return traffic_of(*this)[static_cast<std::size_t>(rank)].elements_received;
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
  if (std::cmp_greater(counts.size(), kMostDirectRanks)) {
    return internal::doubling_allgather(counts);
  }
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
  if (num_ranks > kMostDirectRanks) {
    return internal::halving_reduce_scatter(counts);
  }
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

AllreduceAlgorithm allreduce_algorithm(int num_ranks, std::int64_t n) {
  const bool is_short = num_ranks == 1 || (num_ranks - 1) * n <= kDirectAllreduceElements;
  if (num_ranks > kMostDirectRanks) {
    return is_short ? AllreduceAlgorithm::kRecursiveDoubling : AllreduceAlgorithm::kHalvingDoubling;
  }
  return is_short ? AllreduceAlgorithm::kDirect : AllreduceAlgorithm::kShards;
}

AllreducePlan allreduce_schedule(AllreduceAlgorithm algorithm, int num_ranks, std::int64_t n) {
  SUPERSTEP_CHECK(num_ranks > 0 && n >= 0, "no allreduce", num_ranks, n);
  if (num_ranks == 1) {
    return direct_allreduce(num_ranks, n);
  }
  switch (algorithm) {
    case AllreduceAlgorithm::kDirect:
      return direct_allreduce(num_ranks, n);
    case AllreduceAlgorithm::kShards:
      return sharded_allreduce(num_ranks, n);
    case AllreduceAlgorithm::kRecursiveDoubling:
      return internal::doubling_allreduce(num_ranks, n);
    case AllreduceAlgorithm::kHalvingDoubling:
      break;
  }
  return internal::halving_doubling_allreduce(num_ranks, n);
}

AllreducePlan allreduce_schedule(int num_ranks, std::int64_t n) {
  return allreduce_schedule(allreduce_algorithm(num_ranks, n), num_ranks, n);
}

}  // namespace superstep::bsp
