// The published model, and clients' own ones, on the data of clients.
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

std::vector<std::int64_t> everybody(const ClientData& data) {
  std::vector<std::int64_t> who(as_size(data.num_clients()));
  std::iota(who.begin(), who.end(), 0);
  return who;
}

// Scores of everybody hold those of a cohort, too.
ClientDistributions distributions_of(const std::vector<ClientScore>& scores,
                                     const std::vector<std::int64_t>& cohort) {
  std::vector<ClientScore> of_cohort;
  of_cohort.reserve(cohort.size());
  for (const std::int64_t client : cohort) {
    of_cohort.push_back(scores[as_size(client)]);
  }
  return {.all = distribution_of(accuracies(scores)),
          .cohort = distribution_of(accuracies(of_cohort))};
}

// NaN for a client without samples.
double accuracy_of(const ClientScore& score) {
  return score.correct / score.samples;
}

}  // namespace

void FederatedTrainer::State::judge_held_out(const std::shared_ptr<const ClientData>& data) {
  held_out = data;
  if (data != nullptr) {
    held_out_judge.emplace(model, data, options.local);
  }
}

void FederatedTrainer::State::judge_tests(const std::shared_ptr<const ClientData>& data) {
  if (data == nullptr) {
    if (personal && options.evaluate_clients_every_rounds > 0) {
      throw InvalidArgument(
          "FederatedTrainer::fit",
          fmt::format("personalization ({}): personal models are judged on what their clients keep "
                      "for tests, got no such samples, expected those of divide_clients",
                      name_of(options.personalization.kind)));
    }
    return;
  }
  if (data->num_clients() != clients->num_clients()) {
    throw InvalidArgument("FederatedTrainer::fit",
                          fmt::format("clients of client_tests: got {}, expected {}",
                                      data->num_clients(), clients->num_clients()));
  }
  client_tests = data;
  test_judge.emplace(model, data, options.local);
}

// The last cohort is that of the round just done. Nothing here moves the global model, or a
// client's state.
void FederatedTrainer::State::evaluate_clients() {
  world.set_phase("evaluate clients");
  const std::span<const float> global = server.pull().buffer();
  const std::vector<std::int64_t> cohort = select_cohort(options.cohort, *clients, rounds_done - 1);
  client_metrics = evaluate_on_own(cohort);
  if (held_out_judge) {
    client_metrics->accuracy_held_out = distribution_of(
        accuracies(score_clients(world, everybody(*held_out), [&](std::int64_t client) {
          return held_out_judge->evaluate_at(global, client);
        })));
  }
  if (test_judge) {
    evaluate_on_tests(cohort, *client_metrics);
  }
  world.set_phase("compute");
}

// On the samples that clients train on.
ClientMetrics FederatedTrainer::State::evaluate_on_own(const std::vector<std::int64_t>& cohort) {
  const std::span<const float> global = server.pull().buffer();
  local.set_labels(Labels::kTrue);
  const std::vector<ClientScore> scores =
      score_clients(world, everybody(*clients),
                    [&](std::int64_t client) { return local.evaluate_at(global, client); });
  ClientMetrics metrics;
  metrics.rows.reserve(scores.size());
  for (const ClientScore& score : scores) {
    const bool has_own = personal && personal->has_own(score.client);
    metrics.own_models += has_own ? 1 : 0;
    metrics.rows.push_back({.client = score.client,
                            .has_own_model = has_own,
                            .samples = static_cast<std::int64_t>(score.samples),
                            .accuracy = accuracy_of(score)});
  }
  for (const std::int64_t client : cohort) {
    metrics.rows[as_size(client)].in_cohort = true;
  }
  const ClientDistributions distributions = distributions_of(scores, cohort);
  metrics.accuracy_all = distributions.all;
  metrics.accuracy_cohort = distributions.cohort;
  return metrics;
}

// On the samples that clients keep: the published model, then each client's own.
void FederatedTrainer::State::evaluate_on_tests(const std::vector<std::int64_t>& cohort,
                                                ClientMetrics& metrics) {
  const std::span<const float> global = server.pull().buffer();
  const std::vector<std::int64_t> all = everybody(*clients);
  const std::vector<ClientScore> scores = score_clients(
      world, all, [&](std::int64_t client) { return test_judge->evaluate_at(global, client); });
  metrics.test_accuracy = distributions_of(scores, cohort);
  for (const ClientScore& score : scores) {
    ClientRow& row = metrics.rows[as_size(score.client)];
    row.test_samples = static_cast<std::int64_t>(score.samples);
    row.test_accuracy = accuracy_of(score);
  }
  if (!personal) {
    return;
  }
  const std::vector<ClientScore> own = score_clients(world, all, [&](std::int64_t client) {
    if (client_tests->num_samples(client) == 0) {
      return LocalResult{};
    }
    return test_judge->evaluate_at(personal->model_of(client, rounds_done, global), client);
  });
  metrics.personal_test_accuracy = distributions_of(own, cohort);
  for (const ClientScore& score : own) {
    metrics.rows[as_size(score.client)].personal_test_accuracy = accuracy_of(score);
  }
}

}  // namespace superstep::worker
