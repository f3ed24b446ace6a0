// How models do on each client's own data, as distributions over clients.
//
// Means over all samples hide the clients that a model serves badly. Populations are named apart,
// since they answer different questions: every client, the last cohort (whose data the model just
// saw), and held-out clients that never train. So are the samples: those that a client trains on,
// and those that it keeps for tests (worker/federated/client_division.h). And so are the models:
// the published one, and each client's own (worker/federated/personal_models.h).
//
//   std::vector<double> values = accuracies_of_clients(
//       world, data, [&](std::int64_t client) { return local.evaluate_at(parameters, client); });
//   Distribution accuracy = distribution_at_root(world, std::move(values));
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "bsp/world.h"
#include "worker/federated/local_trainer.h"

namespace superstep::worker {

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

// Of one model, or one kind of models.
struct ClientDistributions {
  Distribution all;
  Distribution cohort;
};

// What the distributions are over, client after client: 8 bytes per client and column. A column is
// empty where nobody was judged so; NaN: a client without samples of the kind.
struct ClientTable {
  std::vector<double> accuracy;                // of the published model, on the samples trained on
  std::vector<double> test_accuracy;           // of the published model, on those kept for tests
  std::vector<double> personal_test_accuracy;  // of the client's own model, on the same
  std::vector<bool> in_cohort;
  std::vector<bool> has_own_model;  // state of a personal model, made in training
};

struct ClientMetrics {
  Distribution accuracy_all;
  Distribution accuracy_cohort;
  std::optional<Distribution> accuracy_held_out;
  std::optional<ClientDistributions> test_accuracy;
  std::optional<ClientDistributions> personal_test_accuracy;
  std::int64_t own_models = 0;               // clients that have the state of a personal model
  std::shared_ptr<const ClientTable> table;  // of rank 0, held-out clients left out; else null
};

// Called on the rank that owns the client (ClientData::owner).
using ClientJudge = std::function<LocalResult(std::int64_t client)>;

// Collective: at rank 0 the accuracies of all clients of `data`, NaN for those without samples;
// nothing on other ranks. A client is judged by its owner. Cost w + g * 8 bytes per client to rank
// 0, which has 16 bytes per client meanwhile, the others 8 of their own part; nothing else grows
// with the population.
std::vector<double> accuracies_of_clients(bsp::World& world, const ClientData& data,
                                          const ClientJudge& judge);
// Collective: over what rank 0 gives, NaN left out; the same on every rank.
Distribution distribution_at_root(bsp::World& world, std::vector<double> values);

}  // namespace superstep::worker
