// Clients of given numbers of samples, for tests that never read one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "worker/federated/client_data.h"

namespace superstep::testing {

class SizedClients : public worker::ClientData {
 public:
  explicit SizedClients(std::vector<std::int64_t> sizes) : sizes_(std::move(sizes)) {}
  std::int64_t num_clients() const override { return static_cast<std::int64_t>(sizes_.size()); }
  std::int64_t num_samples(std::int64_t client) const override {
    return sizes_[static_cast<std::size_t>(client)];
  }
  std::int64_t total_samples() const override {
    std::int64_t sum = 0;
    for (const std::int64_t size : sizes_) {
      sum += size;
    }
    return sum;
  }
  kernels::Shape sample_shape() const override { return {1}; }
  int num_classes() const override { return 2; }
  std::string fingerprint() const override { return "sized clients"; }
  void read(std::int64_t, std::span<const std::int64_t>, const worker::Normalization&,
            std::span<float>, std::span<std::int64_t>, std::span<std::int64_t>) const override {}

 private:
  std::vector<std::int64_t> sizes_;
};

inline std::shared_ptr<const worker::ClientData> equal_clients(std::int64_t num_clients,
                                                               std::int64_t samples = 1) {
  return std::make_shared<SizedClients>(
      std::vector<std::int64_t>(static_cast<std::size_t>(num_clients), samples));
}

}  // namespace superstep::testing
