#include "worker/federated/client_metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "base/as_size.h"

namespace superstep::worker {

namespace {

// Of `values` on every rank to rank 0, which has room for all of them behind its own.
void collect(bsp::World& world, std::span<const std::int64_t> counts, std::vector<double>& values) {
  std::vector<bsp::Outgoing> outgoing;
  std::vector<bsp::Incoming> incoming;
  if (world.rank() > 0) {
    outgoing.push_back({0, std::as_bytes(std::span<const double>(values))});
  } else {
    std::size_t next = values.size();
    values.resize(as_size(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
    for (int rank = 1; rank < world.size(); ++rank) {
      const std::size_t count = as_size(counts[as_size(rank)]);
      incoming.push_back(
          {rank, std::as_writable_bytes(std::span<double>(values).subspan(next, count))});
      next += count;
    }
  }
  world.exchange(outgoing, incoming);
}

// As rank 0 has it.
Distribution told_to_all(bsp::World& world, const Distribution& distribution) {
  std::array<double, 8> fields = {static_cast<double>(distribution.count),
                                  distribution.minimum,
                                  distribution.p10,
                                  distribution.median,
                                  distribution.p90,
                                  distribution.maximum,
                                  distribution.mean,
                                  distribution.variance};
  world.broadcast(std::span<double>(fields), 0);
  return {.count = static_cast<std::int64_t>(fields[0]),
          .minimum = fields[1],
          .p10 = fields[2],
          .median = fields[3],
          .p90 = fields[4],
          .maximum = fields[5],
          .mean = fields[6],
          .variance = fields[7]};
}

double nearest_rank(const std::vector<double>& sorted, double part) {
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

}  // namespace

Distribution distribution_of(std::vector<double> values) {
  if (values.empty()) {
    return {};
  }
  std::sort(values.begin(), values.end());
  Distribution result{.count = static_cast<std::int64_t>(values.size()),
                      .minimum = values.front(),
                      .p10 = nearest_rank(values, 0.1),
                      .median = nearest_rank(values, 0.5),
                      .p90 = nearest_rank(values, 0.9),
                      .maximum = values.back()};
  for (const double value : values) {
    result.mean += value / static_cast<double>(values.size());
  }
  for (const double value : values) {
    result.variance +=
        (value - result.mean) * (value - result.mean) / static_cast<double>(values.size());
  }
  return result;
}

std::vector<double> accuracies_of_clients(bsp::World& world, const ClientData& data,
                                          const ClientJudge& judge) {
  const std::int64_t population = data.num_clients();
  std::vector<std::int64_t> counts(as_size(world.size()), 0);
  for (std::int64_t client = 0; client < population; ++client) {
    ++counts[as_size(data.owner(client, world.size()))];
  }
  std::vector<double> values;
  values.reserve(as_size(world.rank() == 0 ? population : counts[as_size(world.rank())]));
  for (std::int64_t client = 0; client < population; ++client) {
    if (data.owner(client, world.size()) == world.rank()) {
      const LocalResult result = judge(client);
      values.push_back(static_cast<double>(result.correct) / static_cast<double>(result.samples));
    }
  }
  collect(world, counts, values);
  if (world.rank() != 0) {
    return {};
  }
  std::vector<std::int64_t> next(counts.size(), 0);  // where the next value of a rank is
  std::partial_sum(counts.begin(), counts.end() - 1, next.begin() + 1);
  std::vector<double> in_order;
  in_order.reserve(as_size(population));
  for (std::int64_t client = 0; client < population; ++client) {
    in_order.push_back(values[as_size(next[as_size(data.owner(client, world.size()))]++)]);
  }
  return in_order;
}

Distribution distribution_at_root(bsp::World& world, std::vector<double> values) {
  values.erase(
      std::remove_if(values.begin(), values.end(), [](double value) { return std::isnan(value); }),
      values.end());
  return told_to_all(world, distribution_of(std::move(values)));
}

}  // namespace superstep::worker
