// Samples of a client, read in one call.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "worker/federated/client_data.h"

namespace superstep::testing {

struct ClientSamples {
  std::vector<float> values;  // one sample after another
  std::vector<std::int64_t> labels;
  std::vector<std::int64_t> ids;
};

inline ClientSamples read_samples(
    const worker::ClientData& clients, std::int64_t client,
    const std::vector<std::int64_t>& positions,
    const worker::Normalization& normalization = worker::Normalization::unit()) {
  const auto elements = static_cast<std::size_t>(clients.sample_shape().num_elements());
  ClientSamples samples{.values = std::vector<float>(positions.size() * elements),
                        .labels = std::vector<std::int64_t>(positions.size()),
                        .ids = std::vector<std::int64_t>(positions.size())};
  clients.read(client, positions, normalization, samples.values, samples.labels, samples.ids);
  return samples;
}

inline ClientSamples read_all_samples(
    const worker::ClientData& clients, std::int64_t client,
    const worker::Normalization& normalization = worker::Normalization::unit()) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(clients.num_samples(client)));
  std::iota(positions.begin(), positions.end(), 0);
  return read_samples(clients, client, positions, normalization);
}

}  // namespace superstep::testing
