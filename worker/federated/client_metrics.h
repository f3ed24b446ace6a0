// How models do on each client's own data, as distributions over clients.
//
// Means over all samples hide the clients that a model serves badly. Populations are named apart,
// since they answer different questions: every client, the last cohort (whose data the model just
// saw), and held-out clients that never train. So are the samples: those that a client trains on,
// and those that it keeps for tests (worker/federated/client_division.h). And so are the models:
// the published one, and each client's own (worker/federated/personal_models.h).
//
//   std::vector<ClientScore> scores = score_clients(world, all, [&](std::int64_t client) {
//     return local.evaluate_at(parameters, client);
//   });
//   Distribution accuracy = distribution_of(accuracies(scores));
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "bsp/world.h"
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

// Of one model, or one kind of models.
struct ClientDistributions {
  Distribution all;
  Distribution cohort;
};

// One client's part of the distributions; NaN: was not judged so.
struct ClientRow {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  std::int64_t client = 0;
  bool in_cohort = false;
  bool has_own_model = false;  // state of a personal model, made in training
  std::int64_t samples = 0;
  std::int64_t test_samples = 0;
  double accuracy = kNone;                // of the published model, on the samples trained on
  double test_accuracy = kNone;           // of the published model, on the samples kept for tests
  double personal_test_accuracy = kNone;  // of the client's own model, on the same
};

struct ClientMetrics {
  Distribution accuracy_all;
  Distribution accuracy_cohort;
  std::optional<Distribution> accuracy_held_out;
  std::optional<ClientDistributions> test_accuracy;
  std::optional<ClientDistributions> personal_test_accuracy;
  std::int64_t own_models = 0;  // clients that have the state of a personal model
  std::vector<ClientRow> rows;  // client after client, held-out ones left out
};

// Called on the rank that owns the client (place_by_owner).
using ClientJudge = std::function<LocalResult(std::int64_t client)>;

// Collective: the scores of `clients` in their order, the same on every rank. Cost w + one
// allgather of 32 bytes per client.
std::vector<ClientScore> score_clients(bsp::World& world, std::span<const std::int64_t> clients,
                                       const ClientJudge& judge);
// Of the clients that have samples.
std::vector<double> accuracies(std::span<const ClientScore> scores);

}  // namespace superstep::worker
