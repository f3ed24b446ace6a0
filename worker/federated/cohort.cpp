#include "worker/federated/cohort.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <set>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"

namespace superstep::worker {

namespace {

// Floyd: for j = N - m ... N - 1 take a random t <= j, or j itself when t is taken already.
std::vector<std::int64_t> fixed_cohort(std::int64_t size, std::int64_t num_clients,
                                       PhiloxStream stream) {
  std::unordered_set<std::int64_t> taken;
  for (std::int64_t j = num_clients - size; j < num_clients; ++j) {
    const auto candidate =
        static_cast<std::int64_t>(stream.below(static_cast<std::uint64_t>(j) + 1));
    if (!taken.insert(candidate).second) {
      taken.insert(j);
    }
  }
  std::vector<std::int64_t> cohort(taken.begin(), taken.end());
  std::sort(cohort.begin(), cohort.end());
  return cohort;
}

// Client i owns half of block i / 2.
double own_uniform(const PhiloxStream& stream, std::int64_t client) {
  const PhiloxBlock block = stream.block(static_cast<std::uint64_t>(client) / 2);
  const std::size_t word = client % 2 == 0 ? 0 : 2;
  return unit_double(block[word], block[word + 1]);
}

std::vector<std::int64_t> poisson_cohort(double probability, std::int64_t num_clients,
                                         const PhiloxStream& stream, const MayTakePart& may) {
  std::vector<std::int64_t> cohort;
  for (std::int64_t client = 0; client < num_clients; ++client) {
    if (own_uniform(stream, client) < probability && (!may || may(client))) {
      cohort.push_back(client);
    }
  }
  return cohort;
}

// The m largest of log(u) / weight.
std::vector<std::int64_t> weighted_cohort(std::int64_t size, const ClientData& clients,
                                          const PhiloxStream& stream, const MayTakePart& may) {
  using Keyed = std::pair<double, std::int64_t>;
  std::priority_queue<Keyed, std::vector<Keyed>, std::greater<>> best;  // smallest on top
  for (std::int64_t client = 0; client < clients.num_clients(); ++client) {
    if (may && !may(client)) {
      continue;
    }
    const double uniform = own_uniform(stream, client) + 0x1p-54;  // never 0
    const double key = std::log(uniform) / static_cast<double>(clients.num_samples(client));
    if (static_cast<std::int64_t>(best.size()) < size) {
      best.emplace(key, client);
    } else if (best.top() < Keyed(key, client)) {
      best.pop();
      best.emplace(key, client);
    }
  }
  std::vector<std::int64_t> cohort;
  for (; !best.empty(); best.pop()) {
    cohort.push_back(best.top().second);
  }
  std::sort(cohort.begin(), cohort.end());
  return cohort;
}

}  // namespace

std::string_view name_of(Sampling sampling) {
  switch (sampling) {
    case Sampling::kFixed:
      return "fixed";
    case Sampling::kPoisson:
      return "poisson";
    case Sampling::kWeighted:
      return "weighted";
  }
  return "unknown";
}

void validate(const CohortOptions& options, std::int64_t num_clients) {
  if (options.size < 1 || options.size > num_clients) {
    throw InvalidArgument("select_cohort",
                          fmt::format("the cohort does not fit the population: got {} clients per "
                                      "round, expected 1 to {}",
                                      options.size, num_clients));
  }
}

// Tries until enough are found or it takes too long; then chooses the rest from a list of all that
// are left. Whoever is taken is a uniform choice among those left, either way.
std::vector<std::int64_t> choose_clients(std::int64_t count, std::int64_t num_clients,
                                         PhiloxStream stream, const MayTakePart& may) {
  if (!may) {
    return fixed_cohort(std::min(count, num_clients), num_clients, stream);
  }
  const std::int64_t tries = 64 + 16 * count;
  std::set<std::int64_t> taken;
  const auto missing = [&] { return count - static_cast<std::int64_t>(taken.size()); };
  for (std::int64_t i = 0; i < tries && missing() > 0; ++i) {
    const auto client =
        static_cast<std::int64_t>(stream.below(static_cast<std::uint64_t>(num_clients)));
    if (!taken.contains(client) && may(client)) {
      taken.insert(client);
    }
  }
  if (missing() > 0) {
    std::vector<std::int64_t> left;
    for (std::int64_t client = 0; client < num_clients; ++client) {
      if (!taken.contains(client) && may(client)) {
        left.push_back(client);
      }
    }
    const auto num_left = static_cast<std::int64_t>(left.size());
    for (const std::int64_t i : fixed_cohort(std::min(missing(), num_left), num_left, stream)) {
      taken.insert(left[as_size(i)]);
    }
  }
  return {taken.begin(), taken.end()};
}

std::vector<std::int64_t> select_cohort(const CohortOptions& options, const ClientData& clients,
                                        std::int64_t round, const MayTakePart& may) {
  const std::int64_t num_clients = clients.num_clients();
  validate(options, num_clients);
  const PhiloxStream stream(options.seed, stream_id("federated cohort"), round);
  switch (options.sampling) {
    case Sampling::kFixed:
      return choose_clients(options.size, num_clients, stream, may);
    case Sampling::kPoisson:
      return poisson_cohort(static_cast<double>(options.size) / static_cast<double>(num_clients),
                            num_clients, stream, may);
    case Sampling::kWeighted:
      return weighted_cohort(options.size, clients, stream, may);
  }
  SUPERSTEP_CHECK(false, "unknown sampling", static_cast<int>(options.sampling));
}

}  // namespace superstep::worker
