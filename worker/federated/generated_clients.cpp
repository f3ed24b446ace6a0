#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/philox.h"
#include "worker/federated/client_data.h"

namespace superstep::worker {

namespace {

void require_options(const GeneratedClientsOptions& options) {
  constexpr auto kWhere = "generated_clients";
  if (options.num_clients < 1 || options.samples_per_client < 1) {
    throw InvalidArgument(kWhere,
                          fmt::format("clients and samples per client: got {} and {}, expected at "
                                      "least 1",
                                      options.num_clients, options.samples_per_client));
  }
  // Every sample has a number of its own.
  constexpr std::int64_t kMostSamples = std::int64_t{1} << 53;
  if (options.num_clients > kMostSamples / options.samples_per_client) {
    throw InvalidArgument(
        kWhere, fmt::format("samples in all: got {} clients of {}, expected at "
                            "most {} samples",
                            options.num_clients, options.samples_per_client, kMostSamples));
  }
  if (options.num_classes < 2) {
    throw InvalidArgument(
        kWhere, fmt::format("num_classes: got {}, expected at least 2", options.num_classes));
  }
  if (!(options.noise >= 0.0F) || !std::isfinite(options.noise)) {
    throw InvalidArgument(
        kWhere, fmt::format("noise: got {}, expected a number of at least 0", options.noise));
  }
}

class GeneratedClients final : public ClientData {
 public:
  explicit GeneratedClients(GeneratedClientsOptions options) : options_(std::move(options)) {
    require_options(options_);
    const auto elements = static_cast<std::size_t>(options_.sample_shape.num_elements());
    for (int label = 0; label < options_.num_classes; ++label) {
      std::vector<float> pattern(elements);
      fill_uniform(pattern,
                   PhiloxStream(options_.pattern_seed, stream_id("generated pattern"), label),
                   -1.0F, 1.0F);
      patterns_.push_back(std::move(pattern));
    }
  }

  std::int64_t num_clients() const override { return options_.num_clients; }
  std::int64_t num_samples(std::int64_t) const override { return options_.samples_per_client; }
  std::int64_t total_samples() const override {
    return options_.num_clients * options_.samples_per_client;
  }
  kernels::Shape sample_shape() const override { return options_.sample_shape; }
  int num_classes() const override { return options_.num_classes; }
  std::string fingerprint() const override {
    return fmt::format("{} generated clients of {} samples {}, {} classes, noise {}, seeds {} {}",
                       options_.num_clients, options_.samples_per_client,
                       options_.sample_shape.to_string(), options_.num_classes, options_.noise,
                       options_.seed, options_.pattern_seed);
  }

  // Values are in unit scale already: a Normalization's mean and deviation apply, its scale does
  // not.
  void read(std::int64_t client, std::span<const std::int64_t> positions,
            const Normalization& normalization, std::span<float> out,
            std::span<std::int64_t> labels, std::span<std::int64_t> ids) const override {
    SUPERSTEP_CHECK(client >= 0 && client < options_.num_clients, "client", client);
    const auto elements = static_cast<std::size_t>(options_.sample_shape.num_elements());
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::int64_t id = client * options_.samples_per_client + positions[i];
      ids[i] = id;
      labels[i] = (client + positions[i] % 2) % options_.num_classes;
      const std::span<float> sample = out.subspan(i * elements, elements);
      fill_uniform(sample, PhiloxStream(options_.seed, stream_id("generated sample"), id),
                   -options_.noise, options_.noise);
      const std::vector<float>& pattern = patterns_[static_cast<std::size_t>(labels[i])];
      for (std::size_t j = 0; j < elements; ++j) {
        sample[j] =
            (pattern[j] + sample[j] - normalization.mean) / normalization.standard_deviation;
      }
    }
  }

 private:
  GeneratedClientsOptions options_;
  std::vector<std::vector<float>> patterns_;
};

}  // namespace

std::shared_ptr<const ClientData> generated_clients(const GeneratedClientsOptions& options) {
  return std::make_shared<GeneratedClients>(options);
}

}  // namespace superstep::worker
