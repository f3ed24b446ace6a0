// Which client gets which samples of a labelled dataset.
//
//   iid              a random order, cut evenly
//   shards           sorted by label, cut into shards_per_client * N pieces, dealt at random
//                    (McMahan et al. 2017: 2 per client)
//   pathological     labels_per_client labels each, every label's samples split among its clients;
//                    with size_skew > 0 min_samples evenly over a client's labels first, the rest
//                    in log-normal proportions (FedProx's MNIST: 2 labels, skew 2, minimum 10)
//   dirichlet        every label's samples in proportions drawn from Dirichlet(alpha) over clients
//                    (Hsu et al. 2019)
//   dirichlet_sizes  a random order, cut in proportions drawn from Dirichlet(alpha)
//   quantity         a random order, cut in log-normal proportions of deviation size_skew
//   file             a text file: sample and client on each line
//   (worker/federated/partition_file.h)
//
// Guarantees: a function of labels, options and seed, the same on every rank; every sample goes to
// exactly one client; every client has at least min_samples (what is missing is taken from the
// client that has most, never by drawing again). Proportions are drawn in the log domain, so a tiny
// alpha gives extreme proportions and never NaN. Cost O(samples + clients * labels).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "worker/federated/client_index.h"

namespace superstep::worker {

enum class PartitionKind : std::uint8_t {
  kIid,
  kShards,
  kPathological,
  kDirichlet,
  kDirichletSizes,
  kQuantity,
};

std::string_view name_of(PartitionKind kind);

struct PartitionOptions {
  PartitionKind kind = PartitionKind::kIid;
  std::int64_t num_clients = 100;
  std::int64_t shards_per_client = 2;
  std::int64_t labels_per_client = 2;
  double alpha = 0.5;
  double size_skew = 0.0;
  std::int64_t min_samples = 1;
  std::uint64_t seed = 1;
};

// labels[i] in [0, num_classes) is that of sample i. Throws InvalidArgument when there are fewer
// than num_clients * min_samples samples, and for options that cannot be met.
ClientIndex make_partition(std::span<const std::int64_t> labels, int num_classes,
                           const PartitionOptions& options);

}  // namespace superstep::worker
