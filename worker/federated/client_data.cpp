#include "worker/federated/client_data.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep::worker {

namespace {

class PartitionedClients final : public ClientData {
 public:
  PartitionedClients(std::shared_ptr<const Dataset> dataset, ClientIndex index)
      : dataset_(std::move(dataset)), index_(std::move(index)) {
    if (index_.num_dataset_samples() != dataset_->size()) {
      throw InvalidArgument("partitioned_clients",
                            fmt::format("the index is of another dataset: got {} samples, "
                                        "expected {}",
                                        index_.num_dataset_samples(), dataset_->size()));
    }
  }

  std::int64_t num_clients() const override { return index_.num_clients(); }
  std::int64_t num_samples(std::int64_t client) const override {
    return index_.num_samples(client);
  }
  std::int64_t total_samples() const override { return index_.total_samples(); }
  kernels::Shape sample_shape() const override { return dataset_->sample_shape(); }
  int num_classes() const override { return dataset_->num_classes(); }
  std::string name(std::int64_t client) const override { return index_.name(client); }
  std::string fingerprint() const override {
    return fmt::format("{}; {} clients, {}", dataset_->fingerprint(), num_clients(),
                       to_text(index_.hash()));
  }

  std::vector<std::span<const std::byte>> sample_memory() const override {
    return dataset_->sample_memory();
  }

  void read(std::int64_t client, std::span<const std::int64_t> positions,
            const Normalization& normalization, std::span<float> out,
            std::span<std::int64_t> labels, std::span<std::int64_t> ids) const override {
    const std::span<const std::uint32_t> samples = index_.samples(client);
    SUPERSTEP_CHECK(ids.size() == positions.size(), "ids of a read", ids.size());
    for (std::size_t i = 0; i < positions.size(); ++i) {
      SUPERSTEP_CHECK(positions[i] >= 0 && positions[i] < static_cast<std::int64_t>(samples.size()),
                      "position", positions[i], "of client", client);
      ids[i] = samples[static_cast<std::size_t>(positions[i])];
    }
    dataset_->read(ids, normalization, out, labels);
  }

 private:
  std::shared_ptr<const Dataset> dataset_;
  ClientIndex index_;
};

class ClientsDataset final : public Dataset {
 public:
  ClientsDataset(std::shared_ptr<const ClientData> clients, std::int64_t first)
      : clients_(std::move(clients)), first_(first), each_(clients_->num_samples(first)) {}

  std::int64_t size() const override { return (clients_->num_clients() - first_) * each_; }
  kernels::Shape sample_shape() const override { return clients_->sample_shape(); }
  int num_classes() const override { return clients_->num_classes(); }
  std::string fingerprint() const override {
    return fmt::format("clients from {} of {}", first_, clients_->fingerprint());
  }
  void read(std::span<const std::int64_t> indices, const Normalization& normalization,
            std::span<float> out, std::span<std::int64_t> labels) const override {
    const auto elements = static_cast<std::size_t>(sample_shape().num_elements());
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const std::array<std::int64_t, 1> position = {indices[i] % each_};
      std::int64_t id = 0;
      clients_->read(first_ + indices[i] / each_, position, normalization,
                     out.subspan(i * elements, elements), labels.subspan(i, 1),
                     std::span<std::int64_t>(&id, 1));
    }
  }

 private:
  std::shared_ptr<const ClientData> clients_;
  std::int64_t first_;
  std::int64_t each_;
};

}  // namespace

std::shared_ptr<const Dataset> dataset_of_clients(std::shared_ptr<const ClientData> clients,
                                                  std::int64_t first) {
  if (first < 0 || first >= clients->num_clients()) {
    throw InvalidArgument(
        "dataset_of_clients",
        fmt::format("first client: got {}, expected 0 to {}", first, clients->num_clients() - 1));
  }
  return std::make_shared<ClientsDataset>(std::move(clients), first);
}

std::shared_ptr<const ClientData> partitioned_clients(std::shared_ptr<const Dataset> dataset,
                                                      ClientIndex index) {
  return std::make_shared<PartitionedClients>(std::move(dataset), std::move(index));
}

}  // namespace superstep::worker
