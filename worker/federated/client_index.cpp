#include "worker/federated/client_index.h"

#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"

namespace superstep::worker {

ClientIndex::ClientIndex(std::int64_t num_dataset_samples) {
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  if (num_dataset_samples < 1 || num_dataset_samples > kMost) {
    throw InvalidArgument("ClientIndex",
                          fmt::format("samples of the dataset: got {}, expected 1 to {}",
                                      num_dataset_samples, kMost));
  }
  owned_.resize(static_cast<std::size_t>(num_dataset_samples));
}

void ClientIndex::add(std::span<const std::uint32_t> samples) {
  constexpr auto kWhere = "ClientIndex::add";
  if (samples.empty()) {
    throw InvalidArgument(
        kWhere,
        fmt::format("client {} has no data: got 0 samples, expected at least 1", num_clients()));
  }
  for (const std::uint32_t sample : samples) {
    if (sample >= owned_.size()) {
      throw InvalidArgument(
          kWhere, fmt::format("client {}: no such sample: got {}, expected 0 to {}", num_clients(),
                              sample, owned_.size() - 1));
    }
    if (owned_[sample]) {
      throw InvalidArgument(
          kWhere, fmt::format("client {}: sample {} belongs to a client already, expected each "
                              "sample to be given once",
                              num_clients(), sample));
    }
    owned_[sample] = true;
  }
  clients_.push_back(
      {.first = total_samples(), .count = static_cast<std::int64_t>(samples.size())});
  samples_.insert(samples_.end(), samples.begin(), samples.end());
}

void ClientIndex::add(std::span<const std::uint32_t> samples, std::string name) {
  add(samples);
  names_.resize(clients_.size());
  names_.back() = std::move(name);
}

std::string ClientIndex::name(std::int64_t client) const {
  const bool has_name =
      client < static_cast<std::int64_t>(names_.size()) && !names_[as_size(client)].empty();
  return has_name ? names_[as_size(client)] : std::to_string(client);
}

std::int64_t ClientIndex::num_samples(std::int64_t client) const {
  SUPERSTEP_DEBUG_CHECK(client >= 0 && client < num_clients(), "client", client);
  return clients_[static_cast<std::size_t>(client)].count;
}

std::span<const std::uint32_t> ClientIndex::samples(std::int64_t client) const {
  SUPERSTEP_CHECK(client >= 0 && client < num_clients(), "client", client, "of", num_clients());
  const Client& entry = clients_[static_cast<std::size_t>(client)];
  return std::span<const std::uint32_t>(samples_).subspan(static_cast<std::size_t>(entry.first),
                                                          static_cast<std::size_t>(entry.count));
}

Hash128 ClientIndex::hash() const {
  Hasher hasher;
  hasher.update_integer(num_clients());
  for (const Client& client : clients_) {
    hasher.update_integer(client.count);
  }
  hasher.update(std::as_bytes(std::span<const std::uint32_t>(samples_)));
  return hasher.digest();
}

}  // namespace superstep::worker
