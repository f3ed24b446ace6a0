// How a model does on each client's own data, as a distribution over clients.
//
// Means over all samples hide the clients that a model serves badly. Three populations are named
// apart, since they answer different questions: every client, the last cohort (whose data the model
// just saw), and held-out clients that never train.
//
//   std::vector<ClientScore> scores = score_clients(world, local, parameters, *clients, all);
//   Distribution accuracy = distribution_of(accuracies(scores));
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

struct ClientScore {
  std::int64_t client = 0;
  double samples = 0.0;
  double correct = 0.0;
  double loss_sum = 0.0;
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

// Collective: the scores of `clients` in their order, the same on every rank; a client
// is judged by its owner (place_by_owner). Cost w + one allgather of 32 bytes per client.
std::vector<ClientScore> score_clients(bsp::World& world, LocalTrainer& local,
                                       std::span<const float> parameters,
                                       std::span<const std::int64_t> clients);
std::vector<double> accuracies(std::span<const ClientScore> scores);

}  // namespace superstep::worker
