#include "worker/federated/client_metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "worker/federated/placement.h"

namespace superstep::worker {

namespace {

constexpr std::int64_t kFields = 4;

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

std::vector<ClientScore> score_clients(bsp::World& world, std::span<const std::int64_t> clients,
                                       const ClientJudge& judge) {
  const std::vector<int> owners = place_by_owner(clients, world.size());
  std::vector<std::int64_t> counts(static_cast<std::size_t>(world.size()), 0);
  std::vector<double> mine;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    counts[static_cast<std::size_t>(owners[i])] += kFields;
    if (owners[i] == world.rank()) {
      const LocalResult result = judge(clients[i]);
      mine.insert(mine.end(), {static_cast<double>(clients[i]), static_cast<double>(result.samples),
                               static_cast<double>(result.correct), result.loss_sum});
    }
  }
  std::vector<double> all(clients.size() * static_cast<std::size_t>(kFields));
  world.allgather(std::span<const double>(mine), std::span<double>(all), counts);
  std::vector<std::int64_t> next(counts.size(), 0);  // where the next score of a rank begins
  std::partial_sum(counts.begin(), counts.end() - 1, next.begin() + 1);
  std::vector<ClientScore> scores;
  scores.reserve(clients.size());
  for (std::size_t i = 0; i < clients.size(); ++i) {
    std::int64_t& first = next[static_cast<std::size_t>(owners[i])];
    const double* fields = all.data() + first;
    first += kFields;
    scores.push_back({.client = static_cast<std::int64_t>(fields[0]),
                      .samples = fields[1],
                      .correct = fields[2],
                      .loss_sum = fields[3]});
  }
  return scores;
}

std::vector<double> accuracies(std::span<const ClientScore> scores) {
  std::vector<double> values;
  values.reserve(scores.size());
  for (const ClientScore& score : scores) {
    if (score.samples > 0.0) {
      values.push_back(score.correct / score.samples);
    }
  }
  return values;
}

}  // namespace superstep::worker
