#include "worker/federated/feature_noise.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/philox.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

class NoisyClients final : public ClientData {
 public:
  NoisyClients(std::shared_ptr<const ClientData> clients, const FeatureNoiseOptions& options)
      : clients_(std::move(clients)), options_(options) {}

  std::int64_t num_clients() const override { return clients_->num_clients(); }
  std::int64_t num_samples(std::int64_t client) const override {
    return clients_->num_samples(client);
  }
  std::int64_t total_samples() const override { return clients_->total_samples(); }
  kernels::Shape sample_shape() const override { return clients_->sample_shape(); }
  int num_classes() const override { return clients_->num_classes(); }
  std::string name(std::int64_t client) const override { return clients_->name(client); }
  int owner(std::int64_t client, int num_ranks) const override {
    return clients_->owner(client, num_ranks);
  }
  std::vector<std::span<const std::byte>> sample_memory() const override {
    return clients_->sample_memory();
  }
  std::string fingerprint() const override {
    return fmt::format("{}; feature noise {}, seed {}", clients_->fingerprint(), options_.deviation,
                       options_.seed);
  }

  void read(std::int64_t client, std::span<const std::int64_t> positions,
            const Normalization& normalization, std::span<float> out,
            std::span<std::int64_t> labels, std::span<std::int64_t> ids) const override {
    clients_->read(client, positions, normalization, out, labels, ids);
    const double part = static_cast<double>(client + 1) / static_cast<double>(num_clients());
    const auto deviation =
        static_cast<float>(options_.deviation * part / double{normalization.standard_deviation});
    const std::size_t elements = as_size(sample_shape().num_elements());
    for (std::size_t i = 0; i < positions.size(); ++i) {
      add_noise(PhiloxStream(options_.seed, stream_id("federated feature noise"), client, ids[i]),
                deviation, out.subspan(i * elements, elements));
    }
  }

 private:
  static void add_noise(const PhiloxStream& stream, float deviation, std::span<float> sample) {
    std::array<float, 256> noise{};
    for (std::size_t done = 0; done < sample.size(); done += noise.size()) {
      const std::size_t length = std::min(noise.size(), sample.size() - done);
      fill_normal(std::span<float>(noise).first(length), stream, 0.0F, deviation, done);
      for (std::size_t j = 0; j < length; ++j) {
        sample[done + j] += noise[j];
      }
    }
  }

  std::shared_ptr<const ClientData> clients_;
  FeatureNoiseOptions options_;
};

}  // namespace

std::shared_ptr<const ClientData> noisy_clients(std::shared_ptr<const ClientData> clients,
                                                const FeatureNoiseOptions& options) {
  require_field("noisy_clients", options.deviation >= 0.0, "deviation", options.deviation,
                "a number of at least 0");
  return std::make_shared<NoisyClients>(std::move(clients), options);
}

}  // namespace superstep::worker
