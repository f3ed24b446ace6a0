// The clients of a federated run and their samples.
//
// Data belong to clients: everything that trains or judges a client reads through this interface,
// by client and position. Implementations are thread-safe and allocate nothing in read().
//
//   auto clients = partitioned_clients(dataset, make_partition(*dataset, options));
//   clients->read(client, {0, 1, 2}, normalization, images, labels, ids);
//
// Memory: 16 bytes per client and 4 bytes per sample for a partition of a dataset, nothing per
// client for generated ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/shape.h"
#include "worker/data/dataset.h"
#include "worker/federated/client_index.h"

namespace superstep::worker {

class ClientData {
 public:
  virtual ~ClientData() = default;
  virtual std::int64_t num_clients() const = 0;
  virtual std::int64_t num_samples(std::int64_t client) const = 0;  // at least 1
  virtual std::int64_t total_samples() const = 0;
  virtual kernels::Shape sample_shape() const = 0;
  virtual int num_classes() const = 0;
  // Of a client, for people: its number unless the data know better (a writer, a role).
  virtual std::string name(std::int64_t client) const { return std::to_string(client); }
  // Identity of the data and of who has what.
  virtual std::string fingerprint() const = 0;
  // The rank that trains and judges a client where clients do not move.
  virtual int owner(std::int64_t client, int num_ranks) const {
    return static_cast<int>(client % num_ranks);
  }
  // As Dataset::sample_memory(), of the samples that this rank can read.
  virtual std::vector<std::span<const std::byte>> sample_memory() const { return {}; }
  // Samples `positions` (0 to num_samples - 1) of a client, normalised, with labels and ids that
  // are unique among all samples (keys of dropout).
  virtual void read(std::int64_t client, std::span<const std::int64_t> positions,
                    const Normalization& normalization, std::span<float> out,
                    std::span<std::int64_t> labels, std::span<std::int64_t> ids) const = 0;
};

// Every client has the samples of `dataset` that the index gives it. Throws InvalidArgument when
// the index names samples that the dataset does not have.
std::shared_ptr<const ClientData> partitioned_clients(std::shared_ptr<const Dataset> dataset,
                                                      ClientIndex index);

// Clients whose samples are made when they are read: sample j of client i is a function of (seed,
// i, j), of one of two classes that belong to the client. Nothing is stored per client, so that a
// million of them cost what a thousand cost.
struct GeneratedClientsOptions {
  std::int64_t num_clients = 1000;
  std::int64_t samples_per_client = 20;
  kernels::Shape sample_shape{784};
  int num_classes = 10;
  float noise = 0.5F;
  std::uint64_t seed = 1;
  std::uint64_t pattern_seed = 1;
};
std::shared_ptr<const ClientData> generated_clients(const GeneratedClientsOptions& options);

// The samples of the clients from `first` on as one dataset, client after client: test data that no
// cohort of the clients before `first` holds. All these clients must have equally many samples.
std::shared_ptr<const Dataset> dataset_of_clients(std::shared_ptr<const ClientData> clients,
                                                  std::int64_t first);

}  // namespace superstep::worker
