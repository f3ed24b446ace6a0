// Rounds in which the owners of shards see every update: robust rules, and attacks that collude.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/as_size.h"
#include "base/check.h"
#include "base/philox.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

using Rows = std::vector<std::vector<std::int64_t>>;

std::vector<std::span<const std::int64_t>> spans_of(const Rows& rows) {
  return {rows.begin(), rows.end()};
}

// Sums of blocks in the order of blocks: `all` holds one group of `group` numbers per block.
std::vector<double> sum_blocks(std::span<const double> all, std::size_t group) {
  std::vector<double> sums(group, 0.0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    sums[i % group] += all[i];
  }
  return sums;
}

}  // namespace

// What a client that attacks on its own makes of its update, in local.mutable_parameters().
void FederatedTrainer::State::attack_alone(std::int64_t client) {
  const AttackOptions& attack = options.attack;
  const std::span<const float> global = origin.model;
  const std::span<float> own = local.mutable_parameters();
  const auto strength = static_cast<float>(attack.strength);
  if (attack.kind == AttackKind::kSignFlip) {
    for (std::size_t i = 0; i < own.size(); ++i) {
      own[i] = global[i] - strength * (own[i] - global[i]);
    }
  } else if (attack.kind == AttackKind::kGaussian) {
    std::vector<float> noise(own.size());
    fill_normal(noise, client_stream("federated attack", client), 0.0F, strength);
    for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
      for (std::int64_t i = entry.offset; i < entry.offset + entry.num_elements(); ++i) {
        own[as_size(i)] += noise[as_size(i)];
      }
    }
  }
}

// Every accepted client's row on this rank's shard, in the order of the cohort.
std::vector<std::vector<std::int64_t>> FederatedTrainer::State::exchange_rows(
    const RoundPlan& plan, const std::vector<ClientRecord>& records) {
  const auto ranks = as_size(world.size());
  const paramserver::ParameterLayout& layout = model.layout();
  const std::int64_t mine = layout.shard(world.rank(), world.size()).length();
  std::vector<std::int64_t> clients_of_rank(ranks, 0);
  for (std::size_t i = 0; i < records.size(); ++i) {
    clients_of_rank[as_size(plan.placement[i])] += records[i].rejection == Rejection::kNone;
  }
  std::vector<std::int64_t> send_counts;
  std::vector<std::int64_t> receive_counts;
  std::vector<std::int64_t> outgoing;
  for (int rank = 0; rank < world.size(); ++rank) {
    const paramserver::ElementRange shard = layout.shard(rank, world.size());
    for (const std::vector<std::int64_t>& row : rows) {
      outgoing.insert(outgoing.end(), row.begin() + shard.begin, row.begin() + shard.end);
    }
    send_counts.push_back(shard.length() * static_cast<std::int64_t>(rows.size()));
    receive_counts.push_back(mine * clients_of_rank[as_size(rank)]);
  }
  std::vector<std::int64_t> incoming(
      as_size(std::accumulate(receive_counts.begin(), receive_counts.end(), std::int64_t{0})));
  world.alltoallv(std::span<const std::int64_t>(outgoing), send_counts,
                  std::span<std::int64_t>(incoming), receive_counts);
  std::vector<std::int64_t> next(ranks, 0);  // where the next row of a rank begins
  std::partial_sum(receive_counts.begin(), receive_counts.end() - 1, next.begin() + 1);
  Rows shard_rows;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (records[i].rejection == Rejection::kNone) {
      std::int64_t& first = next[as_size(plan.placement[i])];
      shard_rows.emplace_back(incoming.begin() + first, incoming.begin() + first + mine);
      first += mine;
    }
  }
  return shard_rows;
}

// Distances of whole updates from those of every shard's blocks.
std::vector<double> FederatedTrainer::State::whole_distances(std::span<const double> blocks,
                                                             std::size_t group) {
  std::vector<std::int64_t> counts;
  std::int64_t total = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::int64_t length = model.layout().shard(rank, world.size()).length();
    counts.push_back(length / paramserver::kBlockElements * static_cast<std::int64_t>(group));
    total += counts.back();
  }
  std::vector<double> all(as_size(total));
  world.allgather(blocks, std::span<double>(all), counts);
  return sum_blocks(all, group);
}

// Weiszfeld's iterations from the median of coordinates, which is not far and no attacker's. Whole
// distances are the same on every rank, and so is the verdict that they hardly fall any more.
void FederatedTrainer::State::geometric_median(paramserver::UpdateRows updates,
                                               std::span<double> result) {
  paramserver::coordinate_median(updates, result);
  double before = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kMostIterations; ++i) {
    const std::vector<double> squared =
        whole_distances(paramserver::block_distances(updates, result), updates.size());
    double sum = 0.0;
    for (const double value : squared) {
      sum += std::sqrt(value);
    }
    if (before - sum <= options.robust.tolerance * sum) {
      return;
    }
    before = sum;
    paramserver::weighted_mean(updates, paramserver::weiszfeld_weights(squared, 1.0), result);
  }
}

// The rule's result on this shard, in the ring's unit; nothing when too few updates are left.
std::optional<std::vector<double>> FederatedTrainer::State::robust_result(
    const Rows& shard_rows, std::int64_t num_rejected) {
  const RobustOptions& robust = options.robust;
  const std::vector<std::span<const std::int64_t>> spans = spans_of(shard_rows);
  const auto count = static_cast<std::int64_t>(spans.size());
  const auto trimmed =
      robust.kind == RobustKind::kTrimmedMean
          ? static_cast<std::int64_t>(robust.trim_fraction * static_cast<double>(count))
          : 0;
  const bool is_krum = robust.kind == RobustKind::kKrum || robust.kind == RobustKind::kMultiKrum;
  // A rejected update is a fault that was found: so many fewer are left to withstand.
  const std::int64_t byzantine = std::max<std::int64_t>(0, robust.byzantine - num_rejected);
  if (count == 0 || 2 * trimmed >= count || (is_krum && count < 2 * byzantine + 3)) {
    return std::nullopt;
  }
  std::vector<double> result(as_size(model.layout().shard(world.rank(), world.size()).length()));
  if (robust.kind == RobustKind::kMedian) {
    paramserver::coordinate_median(spans, result);
  } else if (is_krum) {
    const std::vector<double> squared =
        whole_distances(paramserver::block_distances(spans), as_size(count * (count - 1) / 2));
    const std::int64_t selected =
        robust.kind == RobustKind::kKrum ? 1 : std::min(robust.selected, count - byzantine);
    std::vector<std::span<const std::int64_t>> chosen;
    for (const int row : paramserver::krum(squared, count, byzantine, selected)) {
      chosen.push_back(spans[as_size(row)]);
    }
    paramserver::trimmed_mean(chosen, 0, result);
  } else if (robust.kind == RobustKind::kGeometricMedian) {
    geometric_median(spans, result);
  } else {
    paramserver::trimmed_mean(spans, trimmed, result);
  }
  return result;
}

// Attackers that know all rows send theirs after the others: what is beyond the bound is rejected
// here, on every rank.
void FederatedTrainer::State::forge(std::vector<ClientRecord>& records, Rows& shard_rows) {
  std::vector<bool> attackers;
  for (const ClientRecord& record : records) {
    if (record.rejection == Rejection::kNone) {
      attackers.push_back(is_attacker(options.attack, options.cohort.seed, record.client));
    }
  }
  const double bound = options.update_bound / paramserver::unit(ring);
  const bool mine = collude(options.attack, attackers, bound, shard_rows);
  if (!needs_all_updates(options.attack.kind) ||
      world.allreduce(static_cast<int>(mine), bsp::ReduceOp::kMin) != 0) {
    return;
  }
  for (ClientRecord& record : records) {
    if (record.rejection == Rejection::kNone &&
        is_attacker(options.attack, options.cohort.seed, record.client)) {
      record.rejection = Rejection::kOutOfRange;
      if (errors) {
        errors->discard(record.client, rounds_done + 1);
      }
    }
  }
  Rows honest;
  for (std::size_t row = 0; row < shard_rows.size(); ++row) {
    if (!attackers[row]) {
      honest.push_back(std::move(shard_rows[row]));
    }
  }
  shard_rows = std::move(honest);
}

bool FederatedTrainer::State::apply_robust(const RoundPlan& plan,
                                           std::vector<ClientRecord>& records) {
  world.set_phase("exchange updates");
  Rows shard_rows = exchange_rows(plan, records);
  rows.clear();
  forge(records, shard_rows);
  const auto num_rejected = static_cast<std::int64_t>(records.size() - shard_rows.size());
  std::optional<std::vector<double>> means = robust_result(shard_rows, num_rejected);
  if (!means) {
    server.apply_means({});
    return false;
  }
  const double one = paramserver::unit(ring);
  for (double& mean : *means) {
    mean *= one;
  }
  server.apply_means(*means);
  return true;
}

}  // namespace superstep::worker
