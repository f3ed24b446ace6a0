#include "worker/federated/partition.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numeric>
#include <queue>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "base/philox.h"
#include "worker/federated/proportions.h"

namespace superstep::worker {

namespace {

using Samples = std::vector<std::uint32_t>;

void require(bool holds, const std::string& what) {
  if (!holds) {
    throw InvalidArgument("make_partition", what);
  }
}

void require_options(std::int64_t num_samples, int num_classes, const PartitionOptions& options) {
  require(options.num_clients >= 1,
          fmt::format("num_clients: got {}, expected at least 1", options.num_clients));
  require(options.min_samples >= 1,
          fmt::format("min_samples: got {}, expected at least 1 (a client without data is none)",
                      options.min_samples));
  require(
      options.num_clients <= num_samples / options.min_samples,
      fmt::format("more clients than the data can serve: got {} clients of at least {} samples, "
                  "expected at most {} samples in all",
                  options.num_clients, options.min_samples, num_samples));
  const auto is_one_of = [&](std::initializer_list<PartitionKind> kinds) {
    return std::find(kinds.begin(), kinds.end(), options.kind) != kinds.end();
  };
  if (is_one_of({PartitionKind::kDirichlet, PartitionKind::kDirichletSizes})) {
    require(std::isfinite(options.alpha) && options.alpha > 0.0,
            fmt::format("alpha: got {}, expected a number above 0", options.alpha));
  }
  if (is_one_of({PartitionKind::kPathological, PartitionKind::kQuantity})) {
    require(std::isfinite(options.size_skew) && options.size_skew >= 0.0,
            fmt::format("size_skew: got {}, expected a number of at least 0", options.size_skew));
  }
  if (is_one_of({PartitionKind::kPathological})) {
    require(options.labels_per_client >= 1 && options.labels_per_client <= num_classes,
            fmt::format("labels_per_client: got {}, expected 1 to {}", options.labels_per_client,
                        num_classes));
  }
  if (is_one_of({PartitionKind::kShards})) {
    require(options.shards_per_client >= 1 &&
                options.shards_per_client <= num_samples / options.num_clients,
            fmt::format("shards_per_client: got {}, expected 1 to {}", options.shards_per_client,
                        num_samples / options.num_clients));
  }
}

class Partitioner {
 public:
  Partitioner(std::span<const std::int64_t> labels, int num_classes,
              const PartitionOptions& options)
      : labels_(labels),
        num_classes_(num_classes),
        options_(options),
        clients_(as_size(options.num_clients)) {}

  std::vector<Samples> run() {
    switch (options_.kind) {
      case PartitionKind::kIid:
        cut(random_order(), even(options_.num_clients));
        break;
      case PartitionKind::kShards:
        shards();
        break;
      case PartitionKind::kPathological:
        pathological();
        break;
      case PartitionKind::kDirichlet:
        dirichlet();
        break;
      case PartitionKind::kDirichletSizes:
        cut(random_order(),
            dirichlet_proportions(options_.num_clients, options_.alpha, stream("sizes", 0)));
        break;
      case PartitionKind::kQuantity:
        cut(random_order(),
            log_normal_proportions(options_.num_clients, options_.size_skew, stream("sizes", 0)));
        break;
    }
    level_up();
    return std::move(clients_);
  }

 private:
  PhiloxStream stream(std::string_view purpose, std::int64_t index) const {
    return PhiloxStream(options_.seed, stream_id("federated partition"), stream_id(purpose), index);
  }

  static std::vector<double> even(std::int64_t count) {
    return std::vector<double>(as_size(count), 1.0 / static_cast<double>(count));
  }

  Samples random_order() const {
    const std::vector<std::int64_t> order =
        permutation(static_cast<std::int64_t>(labels_.size()), options_.seed,
                    stream_id("federated partition order"));
    return {order.begin(), order.end()};
  }

  // The samples of every label, in random order.
  std::vector<Samples> by_label() const {
    std::vector<Samples> samples(as_size(num_classes_));
    for (const std::uint32_t sample : random_order()) {
      samples[as_size(labels_[sample])].push_back(sample);
    }
    return samples;
  }

  // Consecutive pieces of `samples` go to clients 0, 1, ...
  void cut(const Samples& samples, std::span<const double> proportions) {
    const std::vector<std::int64_t> cuts =
        cut_points(static_cast<std::int64_t>(samples.size()), proportions);
    for (std::size_t i = 0; i < proportions.size(); ++i) {
      clients_[i].insert(clients_[i].end(), samples.begin() + cuts[i],
                         samples.begin() + cuts[i + 1]);
    }
  }

  void shards() {
    Samples sorted;
    for (const Samples& samples : by_label()) {
      sorted.insert(sorted.end(), samples.begin(), samples.end());
    }
    const std::int64_t count = options_.num_clients * options_.shards_per_client;
    const auto size = static_cast<std::int64_t>(sorted.size());
    const std::vector<std::int64_t> deal =
        permutation(count, options_.seed, stream_id("federated shards"));
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t shard = deal[as_size(i)];
      Samples& client = clients_[as_size(i / options_.shards_per_client)];
      client.insert(client.end(), sorted.begin() + shard * size / count,
                    sorted.begin() + (shard + 1) * size / count);
    }
  }

  // Neighbouring labels, dealt in turn: each label has as many clients as any other, or one fewer.
  void pathological() {
    const std::vector<Samples> samples = by_label();
    std::vector<std::vector<std::int64_t>> takers(as_size(num_classes_));
    const std::vector<std::int64_t> order =
        permutation(options_.num_clients, options_.seed, stream_id("federated takers"));
    for (std::int64_t i = 0; i < options_.num_clients; ++i) {
      for (std::int64_t j = 0; j < options_.labels_per_client; ++j) {
        const std::int64_t label = (i + j) % num_classes_;
        takers[as_size(label)].push_back(order[as_size(i)]);
      }
    }
    for (int label = 0; label < num_classes_; ++label) {
      const std::vector<std::int64_t>& clients = takers[as_size(label)];
      if (clients.empty()) {
        require(samples[as_size(label)].empty(),
                fmt::format("label {} has no client: {} clients with {} labels each cannot take "
                            "all {} labels",
                            label, options_.num_clients, options_.labels_per_client, num_classes_));
        continue;
      }
      const auto count = static_cast<std::int64_t>(clients.size());
      if (options_.size_skew > 0.0) {
        give(samples[as_size(label)], reserved(samples[as_size(label)].size(), count),
             log_normal_proportions(count, options_.size_skew, stream("label sizes", label)),
             clients);
      } else {
        give(samples[as_size(label)], 0, even(count), clients);
      }
    }
  }

  // What every taker of a label gets of it before the rest is cut by skewed proportions, so that a
  // client below the minimum has its own labels and not the largest client's (FedProx's MNIST: 5 of
  // each of 2 labels, then log-normal).
  std::int64_t reserved(std::size_t num_samples, std::int64_t num_takers) const {
    const std::int64_t wanted =
        (options_.min_samples + options_.labels_per_client - 1) / options_.labels_per_client;
    return std::min(wanted, static_cast<std::int64_t>(num_samples) / num_takers);
  }

  // The first `each` of `samples` per client of `to`, then the rest in proportions.
  void give(std::span<const std::uint32_t> samples, std::int64_t each,
            std::span<const double> proportions, std::span<const std::int64_t> to) {
    const std::span<const std::uint32_t> rest = samples.subspan(as_size(each) * to.size());
    const std::vector<std::int64_t> cuts =
        cut_points(static_cast<std::int64_t>(rest.size()), proportions);
    for (std::size_t i = 0; i < proportions.size(); ++i) {
      Samples& client = clients_[as_size(to[i])];
      const std::span<const std::uint32_t> own = samples.subspan(as_size(each) * i, as_size(each));
      client.insert(client.end(), own.begin(), own.end());
      client.insert(client.end(), rest.begin() + cuts[i], rest.begin() + cuts[i + 1]);
    }
  }

  void dirichlet() {
    const std::vector<Samples> samples = by_label();
    for (int label = 0; label < num_classes_; ++label) {
      cut(samples[as_size(label)], dirichlet_proportions(options_.num_clients, options_.alpha,
                                                         stream("label proportions", label)));
    }
  }

  // Clients below the minimum take from the largest one (of equal ones the first), its last samples
  // first. The largest always has more than the minimum, since there are enough samples for all.
  void level_up() {
    const std::size_t least = as_size(options_.min_samples);
    using Sized = std::pair<std::size_t, std::size_t>;  // size, clients - index: the largest on top
    std::priority_queue<Sized> rich;
    const auto offer = [&](std::size_t client) {
      if (clients_[client].size() > least) {
        rich.emplace(clients_[client].size(), clients_.size() - client);
      }
    };
    for (std::size_t client = 0; client < clients_.size(); ++client) {
      offer(client);
    }
    for (Samples& client : clients_) {
      while (client.size() < least) {
        SUPERSTEP_CHECK(!rich.empty(), "clients with samples to spare");
        const std::size_t index = clients_.size() - rich.top().second;
        rich.pop();
        Samples& richest = clients_[index];
        const std::size_t missing = least - client.size();
        const std::size_t spare = richest.size() - least;
        // At most half of what it can spare, so that the load of the small ones is spread.
        const std::size_t taken = std::min(missing, (spare + 1) / 2);
        client.insert(client.end(), richest.end() - static_cast<std::ptrdiff_t>(taken),
                      richest.end());
        richest.resize(richest.size() - taken);
        offer(index);
      }
    }
  }

  std::span<const std::int64_t> labels_;
  int num_classes_;
  PartitionOptions options_;
  std::vector<Samples> clients_;
};

}  // namespace

std::string_view name_of(PartitionKind kind) {
  switch (kind) {
    case PartitionKind::kIid:
      return "iid";
    case PartitionKind::kShards:
      return "shards";
    case PartitionKind::kPathological:
      return "pathological";
    case PartitionKind::kDirichlet:
      return "dirichlet";
    case PartitionKind::kDirichletSizes:
      return "dirichlet_sizes";
    case PartitionKind::kQuantity:
      return "quantity";
  }
  return "unknown";
}

ClientIndex make_partition(std::span<const std::int64_t> labels, int num_classes,
                           const PartitionOptions& options) {
  const auto num_samples = static_cast<std::int64_t>(labels.size());
  require_options(num_samples, num_classes, options);
  for (const std::int64_t label : labels) {
    require(label >= 0 && label < num_classes,
            fmt::format("label: got {}, expected 0 to {}", label, num_classes - 1));
  }
  ClientIndex index(num_samples);
  for (const Samples& samples : Partitioner(labels, num_classes, options).run()) {
    index.add(samples);
  }
  return index;
}

}  // namespace superstep::worker
