// The published model, and clients' own ones, on the data of clients.
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

std::vector<double> of_cohort(const std::vector<double>& values,
                              const std::vector<std::int64_t>& cohort) {
  std::vector<double> result;
  if (!values.empty()) {  // rank 0
    result.reserve(cohort.size());
    for (const std::int64_t client : cohort) {
      result.push_back(values[as_size(client)]);
    }
  }
  return result;
}

// Collective. The accuracies of everybody hold those of a cohort, too.
ClientDistributions distributions_of(bsp::World& world, const std::vector<double>& values,
                                     const std::vector<std::int64_t>& cohort) {
  return {.all = distribution_at_root(world, values),
          .cohort = distribution_at_root(world, of_cohort(values, cohort))};
}

}  // namespace

void FederatedTrainer::State::judge_held_out(const std::shared_ptr<const ClientData>& data) {
  held_out = data;
  if (data != nullptr) {
    held_out_judge.emplace(model, data, options.local);
    watch_samples_of(*data, *held_out_judge);
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
  watch_samples_of(*data, *test_judge);
}

// The last cohort is that of the round just done. Nothing here moves the global model, or a
// client's state.
void FederatedTrainer::State::evaluate_clients() {
  world.set_phase("evaluate clients");
  const std::span<const float> global = server.pull().buffer();
  ClientMetrics metrics;
  ClientTable table;
  evaluate_on_own(last_cohort, metrics, table);
  if (held_out_judge) {
    metrics.accuracy_held_out = distribution_at_root(
        world, accuracies_of_clients(world, *held_out, [&](std::int64_t client) {
          return held_out_judge->evaluate_at(global, client);
        }));
  }
  if (test_judge) {
    evaluate_on_tests(last_cohort, metrics, table);
  }
  if (world.rank() == 0) {
    metrics.table = std::make_shared<const ClientTable>(std::move(table));
  }
  client_metrics = metrics;
  world.set_phase("compute");
}

// On the samples that clients train on.
void FederatedTrainer::State::evaluate_on_own(const std::vector<std::int64_t>& cohort,
                                              ClientMetrics& metrics, ClientTable& table) {
  const std::span<const float> global = server.pull().buffer();
  const std::int64_t population = clients->num_clients();
  local.set_labels(Labels::kTrue);
  table.accuracy = accuracies_of_clients(
      world, *clients, [&](std::int64_t client) { return local.evaluate_at(global, client); });
  const ClientDistributions distributions = distributions_of(world, table.accuracy, cohort);
  metrics.accuracy_all = distributions.all;
  metrics.accuracy_cohort = distributions.cohort;
  table.in_cohort.resize(as_size(population));
  for (const std::int64_t client : cohort) {
    table.in_cohort[as_size(client)] = true;
  }
  table.has_own_model.resize(as_size(population));
  for (std::int64_t client = 0; client < population; ++client) {
    const bool has_own = personal && personal->has_own(client);
    table.has_own_model[as_size(client)] = has_own;
    metrics.own_models += has_own ? 1 : 0;
  }
}

// On the samples that clients keep: the published model, then each client's own.
void FederatedTrainer::State::evaluate_on_tests(const std::vector<std::int64_t>& cohort,
                                                ClientMetrics& metrics, ClientTable& table) {
  const std::span<const float> global = server.pull().buffer();
  table.test_accuracy = accuracies_of_clients(world, *client_tests, [&](std::int64_t client) {
    return test_judge->evaluate_at(global, client);
  });
  metrics.test_accuracy = distributions_of(world, table.test_accuracy, cohort);
  if (!personal) {
    return;
  }
  table.personal_test_accuracy =
      accuracies_of_clients(world, *client_tests, [&](std::int64_t client) {
        return client_tests->num_samples(client) == 0
                   ? LocalResult{}
                   : test_judge->evaluate_at(personal->model_of(client, rounds_done, global),
                                             client);
      });
  metrics.personal_test_accuracy = distributions_of(world, table.personal_test_accuracy, cohort);
}

}  // namespace superstep::worker
