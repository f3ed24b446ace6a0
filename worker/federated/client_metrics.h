// How a model does on each client's own data, as a distribution over clients.
//
// Means over all samples hide the clients that a model serves badly. Three populations are named
// apart, since they answer different questions: every client, the last cohort (whose data the model
// just saw), and held-out clients that never train.
//
//   Distribution accuracy =
//       accuracy_of_clients(world, local, parameters, ClientSelection::all(num_clients));
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "bsp/world.h"
#include "worker/federated/client_data.h"
#include "worker/federated/local_trainer.h"

namespace superstep::worker {

// Clients to judge: a list, or all of a population without the memory of a list.
class ClientSelection {
 public:
  static ClientSelection all(std::int64_t num_clients) { return {num_clients, {}}; }
  // The list must remain valid.
  static ClientSelection of(std::span<const std::int64_t> clients) {
    return {static_cast<std::int64_t>(clients.size()), clients};
  }
  std::int64_t size() const { return size_; }
  std::int64_t operator[](std::int64_t i) const {
    return listed_.empty() ? i : listed_[static_cast<std::size_t>(i)];
  }

 private:
  ClientSelection(std::int64_t size, std::span<const std::int64_t> listed)
      : size_(size), listed_(listed) {}
  std::int64_t size_;
  std::span<const std::int64_t> listed_;
};

// Over clients, each counting once. Percentiles by nearest rank: the smallest value that at least
// that part of the clients does not exceed.
struct Distribution {
  std::int64_t count = 0;
  double minimum = 0.0;
  double p10 = 0.0;
  double median = 0.0;
  double p90 = 0.0;
  double maximum = 0.0;
  double mean = 0.0;
  double variance = 0.0;  // n in the denominator
};
Distribution distribution_of(std::vector<double> values);

struct ClientMetrics {
  Distribution accuracy_all;
  Distribution accuracy_cohort;
  std::optional<Distribution> accuracy_held_out;
};

// Collective: the accuracy of `parameters` on the clients' own data, the same on every rank. A
// client is judged by its owner (ClientData::owner). Cost w + g * 8 bytes per client to rank 0,
// which has that much memory of them, the others their own part; nothing else grows with the
// population.
Distribution accuracy_of_clients(bsp::World& world, LocalTrainer& local,
                                 std::span<const float> parameters, const ClientSelection& clients);

}  // namespace superstep::worker
