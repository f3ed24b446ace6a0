// Which samples of a dataset belong to which client: 16 bytes per client, 4 bytes per sample.
//
//   ClientIndex index(60000);                 // samples that may be given
//   index.add({5, 17, 3});                    // the samples of client 0
//   index.add({1, 2});                        // of client 1
//   index.samples(1);                         // {1, 2}
//   index.add({4}, "writer 7");               // a client with a name
//
// A sample belongs to at most one client; add() refuses a client without data, a sample twice and a
// sample that does not exist, each by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace superstep::worker {

class ClientIndex {
 public:
  // Throws InvalidArgument unless 1 <= num_dataset_samples < 2^32.
  explicit ClientIndex(std::int64_t num_dataset_samples);

  // The next client's samples, in the order they are kept.
  void add(std::span<const std::uint32_t> samples);
  void add(std::span<const std::uint32_t> samples, std::string name);

  std::int64_t num_clients() const { return static_cast<std::int64_t>(clients_.size()); }
  std::int64_t num_dataset_samples() const { return static_cast<std::int64_t>(owned_.size()); }
  std::int64_t total_samples() const { return static_cast<std::int64_t>(samples_.size()); }
  std::int64_t num_samples(std::int64_t client) const;
  std::span<const std::uint32_t> samples(std::int64_t client) const;
  std::string name(std::int64_t client) const;  // its number when it has none

  // Of all clients' samples in order.
  Hash128 hash() const;

 private:
  struct Client {
    std::int64_t first = 0;
    std::int64_t count = 0;
  };
  static_assert(sizeof(Client) == 16);

  std::vector<Client> clients_;
  std::vector<std::uint32_t> samples_;
  std::vector<bool> owned_;         // one bit per sample of the dataset
  std::vector<std::string> names_;  // up to the last client that has one
};

}  // namespace superstep::worker
