// Personal models: what they share with federated averaging bit for bit, and what they compute.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "bsp/environment.h"
#include "tests/base/temporary_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/federated/client_division.h"
#include "worker/federated/client_store.h"
#include "worker/federated/local_trainer.h"

namespace superstep::worker {
namespace {

using testing::FederatedOutcome;
using testing::kUneven;
using testing::run_federated;
using testing::small_clients;
using testing::small_model;
using testing::small_options;

constexpr PartitionOptions kTwoLabels{
    .kind = PartitionKind::kPathological, .num_clients = 10, .labels_per_client = 2, .seed = 2};

class PersonalIdentity : public ::testing::Test {
 protected:
  FederatedOutcome outcome_of(FederatedOptions options, const DividedClients& parts) {
    FederatedOutcome outcome;
    options.client_store = directory_.path() / std::to_string(count_++);
    store_ = options.client_store;
    bsp::Environment environment;
    const int code = environment.run({}, [&](bsp::World& world) {
      outcome = run_federated(world, small_model(), parts.train, options, {}, parts.test);
    });
    EXPECT_EQ(code, 0);
    return outcome;
  }

  std::vector<float> model_after(const FederatedOptions& options,
                                 const std::shared_ptr<const ClientData>& clients) {
    return outcome_of(options, {.train = clients, .test = nullptr}).parameters;
  }

  static FederatedOptions with(PersonalizationKind kind) {
    FederatedOptions options = small_options();
    options.rounds = 6;
    options.personalization.kind = kind;
    return options;
  }

  // The state of a client on the disk after the last run.
  std::vector<float> state_of(std::int64_t client, std::int64_t elements) const {
    const ClientStore store(store_ / "personal", elements, 1'000'000);
    EXPECT_TRUE(store.is_touched(client)) << client;
    std::vector<float> state(static_cast<std::size_t>(elements));
    store.read(client, state);
    return state;
  }

  testing::TemporaryDirectory directory_;
  std::filesystem::path store_;  // of the last run
  int count_ = 0;
};

std::vector<float> initial_model(const Model& model) {
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(small_options().local.seed, parameters);
  return parameters;
}

std::vector<float> values_of(const std::vector<float>& model,
                             const std::vector<paramserver::LayoutEntry>& entries) {
  std::vector<float> values;
  for (const paramserver::LayoutEntry& entry : entries) {
    values.insert(values.end(), model.begin() + entry.offset,
                  model.begin() + entry.offset + entry.num_elements());
  }
  return values;
}

TEST_F(PersonalIdentity, TheGlobalModelOfDittoAndFineTuningIsThatOfTheAlgorithmAlone) {
  const DividedClients parts = divide_clients(small_clients(kUneven), {.test_fraction = 0.25});
  for (const Algorithm algorithm :
       {Algorithm::kFedAvg, Algorithm::kFedAdam, Algorithm::kScaffold, Algorithm::kMimeLite}) {
    FederatedOptions plain = small_options();
    plain.rounds = 6;
    plain.algorithm.kind = algorithm;
    const std::vector<float> expected = outcome_of(plain, parts).parameters;
    for (const PersonalizationKind kind :
         {PersonalizationKind::kDitto, PersonalizationKind::kFineTune}) {
      FederatedOptions options = plain;
      options.personalization = {.kind = kind, .epochs = 2, .learning_rate = 0.05};
      options.evaluate_clients_every_rounds = 2;
      EXPECT_EQ(outcome_of(options, parts).parameters, expected)
          << name_of(kind) << " " << name_of(algorithm);
    }
  }
}

TEST_F(PersonalIdentity, FedPerWithoutPersonalLayersIsFedAvg) {
  const auto clients = small_clients(kUneven);
  FederatedOptions fedper = with(PersonalizationKind::kFedPer);
  fedper.personalization.layers = 0;
  const std::vector<float> expected = model_after(with(PersonalizationKind::kNone), clients);
  EXPECT_EQ(model_after(fedper, clients), expected);
  fedper.personalization.layers = 1;
  EXPECT_NE(model_after(fedper, clients), expected);
}

// Whatever is done to updates on their way.
TEST_F(PersonalIdentity, PersonalLayersOfTheGlobalModelNeverChange) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  const FederatedOptions fedper = with(PersonalizationKind::kFedPer);
  const auto mine = personal_entries(model.layout(), fedper.personalization);
  const auto shared = shared_entries(model.layout(), fedper.personalization);
  std::vector<FederatedOptions> cases;
  for (const Algorithm algorithm :
       {Algorithm::kFedAvg, Algorithm::kFedAvgM, Algorithm::kFedAdagrad, Algorithm::kFedAdam,
        Algorithm::kFedYogi, Algorithm::kFedNova}) {
    cases.push_back(fedper);
    cases.back().algorithm.kind = algorithm;
  }
  for (const CompressionKind kind :
       {CompressionKind::kQsgd, CompressionKind::kTopK, CompressionKind::kRandomK,
        CompressionKind::kSign, CompressionKind::kRotation}) {
    cases.push_back(fedper);
    cases.back().compression = {.kind = kind, .keep = 0.3};
    if (kind != CompressionKind::kQsgd && kind != CompressionKind::kRotation) {
      cases.push_back(FederatedOptions(cases.back()));
      cases.back().compression.error_feedback = ErrorFeedback::kOn;
    }
  }
  for (const AttackKind kind :
       {AttackKind::kGaussian, AttackKind::kSignFlip, AttackKind::kLittleIsEnough}) {
    cases.push_back(fedper);
    cases.back().algorithm.weighting = Weighting::kUniform;
    cases.back().robust = {.kind = RobustKind::kMean};
    cases.back().attack = {.kind = kind, .fraction = 0.4, .strength = 0.5};
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::vector<float> after = model_after(cases[i], clients);
    EXPECT_EQ(values_of(after, mine), values_of(initial_model(model), mine)) << i;
    EXPECT_NE(values_of(after, shared), values_of(initial_model(model), shared)) << i;
  }
}

TEST_F(PersonalIdentity, FedPerSendsItsSharedLayersOnly) {
  const auto clients = small_clients(kUneven);
  const FederatedOutcome outcome =
      outcome_of(with(PersonalizationKind::kFedPer), {.train = clients, .test = nullptr});
  // 64 x 12 + 12 floats of each of 30 clients.
  EXPECT_EQ(outcome.result.upload_bytes, 30 * (64 * 12 + 12) * 4);
}

// One round of everybody by hand: local training, the mean of the shared layers in double, the
// personal ones kept.
TEST_F(PersonalIdentity, ARoundOfFedPerIsTheMeanOfSharedLayersAndTheClientsOwnOnes) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  FederatedOptions options = with(PersonalizationKind::kFedPer);
  options.rounds = 1;
  options.cohort.size = 10;
  const std::vector<float> after = model_after(options, clients);
  const std::vector<float> before = initial_model(model);
  const auto mine = personal_entries(model.layout(), options.personalization);
  LocalTrainer local(model, clients, options.local);
  std::vector<double> sum(before.size(), 0.0);
  double weights = 0.0;
  std::int64_t elements = 0;
  for (const paramserver::LayoutEntry& entry : mine) {
    elements += entry.num_elements();
  }
  for (std::int64_t client = 0; client < 10; ++client) {
    local.train(before, client, 0, {});
    const std::vector<float> trained(local.parameters().begin(), local.parameters().end());
    const auto weight = static_cast<double>(clients->num_samples(client));
    weights += weight;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += weight * (double{trained[i]} - double{before[i]});
    }
    EXPECT_EQ(state_of(client, elements), values_of(trained, mine)) << client;
  }
  for (const paramserver::LayoutEntry& entry :
       shared_entries(model.layout(), options.personalization)) {
    for (std::int64_t i = entry.offset; i < entry.offset + entry.num_elements(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      // Rounded once to float32, of values below 1.
      EXPECT_NEAR(after[at], double{before[at]} + sum[at] / weights, 1.2e-7);
    }
  }
}

// Two rounds of Li et al.'s algorithm 1 with full batches, one step each, in double.
TEST_F(PersonalIdentity, DittoStepsOnItsGradientAndTowardsTheModelOfTheRound) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  FederatedOptions options = with(PersonalizationKind::kDitto);
  options.cohort.size = 10;
  options.local.batch = 0;
  options.personalization.lambda = 0.7;
  options.personalization.learning_rate = 0.3;
  options.rounds = 1;
  const std::vector<float> published = model_after(options, clients);
  options.rounds = 2;
  model_after(options, clients);
  LocalTrainer local(model, clients, options.local);
  std::vector<float> gradient(published.size());
  for (std::int64_t client = 0; client < 10; ++client) {
    std::vector<float> personal = initial_model(model);
    for (const std::vector<float>& global : {initial_model(model), published}) {
      local.gradient_at(personal, client, 0, gradient);
      const auto count = static_cast<double>(clients->num_samples(client));
      std::vector<float> next = personal;
      for (std::size_t i = 0; i < next.size(); ++i) {
        const double pull = 0.7 * (double{personal[i]} - double{global[i]});
        next[i] = static_cast<float>(double{personal[i]} - 0.3 * (gradient[i] / count + pull));
      }
      personal = next;
    }
    const std::vector<float> state = state_of(client, model.layout().size());
    for (std::size_t i = 0; i < state.size(); ++i) {
      // A few roundings of float32 in each of two steps.
      EXPECT_NEAR(state[i], personal[i], 1e-6) << client;
    }
  }
}

TEST_F(PersonalIdentity, DittoWithoutPullBeginsAsTheClientsLocalModel) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  FederatedOptions options = with(PersonalizationKind::kDitto);
  options.personalization.lambda = 0.0;
  options.rounds = 1;
  options.cohort.size = 10;
  model_after(options, clients);
  LocalTrainer local(model, clients, options.local);
  for (std::int64_t client = 0; client < 10; ++client) {
    local.train(initial_model(model), client, 0, {});
    EXPECT_TRUE(std::equal(local.parameters().begin(), local.parameters().end(),
                           state_of(client, model.layout().size()).begin()))
        << client;
  }
}

TEST_F(PersonalIdentity, AStrongerPullKeepsPersonalModelsNearerToTheGlobalOne) {
  const auto clients = small_clients(kTwoLabels);
  const std::int64_t size = small_model().layout().size();
  const auto distance = [&](double lambda) {
    FederatedOptions options = with(PersonalizationKind::kDitto);
    options.cohort.size = 10;
    options.personalization.lambda = lambda;
    const std::vector<float> global = model_after(options, clients);
    const std::vector<float> personal = state_of(0, size);
    double squares = 0.0;
    for (std::size_t i = 0; i < global.size(); ++i) {
      squares += std::pow(double{personal[i]} - double{global[i]}, 2.0);
    }
    return std::sqrt(squares);
  };
  EXPECT_GT(distance(0.0), 1.2 * distance(1.0));
  EXPECT_GT(distance(1.0), 1.2 * distance(5.0));
}

// Two labels a client, judged on samples that nobody trained on.
TEST_F(PersonalIdentity, PersonalModelsServeClientsOfTwoLabelsBetterThanTheGlobalOne) {
  const DividedClients parts =
      divide_clients(small_clients(kTwoLabels, 600), {.test_fraction = 0.3, .seed = 4});
  for (const PersonalizationKind kind : {PersonalizationKind::kDitto, PersonalizationKind::kFedPer,
                                         PersonalizationKind::kFineTune}) {
    FederatedOptions options = with(kind);
    options.evaluate_clients_every_rounds = 6;
    options.cohort.size = 10;
    const FederatedOutcome outcome = outcome_of(options, parts);
    ASSERT_TRUE(outcome.result.clients && outcome.result.clients->personal_test_accuracy);
    const ClientMetrics& metrics = *outcome.result.clients;
    EXPECT_EQ(metrics.test_accuracy->all.count, 10);
    EXPECT_GT(metrics.personal_test_accuracy->all.mean, metrics.test_accuracy->all.mean + 0.05)
        << name_of(kind);
    EXPECT_GT(metrics.personal_test_accuracy->all.mean, 0.85) << name_of(kind);
    EXPECT_EQ(metrics.own_models, kind == PersonalizationKind::kFineTune ? 0 : 10);
  }
}

TEST_F(PersonalIdentity, ClientsThatNeverTookPartAreServedByTheGlobalModel) {
  const DividedClients parts =
      divide_clients(small_clients(kTwoLabels, 600), {.test_fraction = 0.3, .seed = 4});
  FederatedOptions options = with(PersonalizationKind::kDitto);
  options.rounds = 1;
  options.cohort.size = 3;
  options.evaluate_clients_every_rounds = 1;
  const ClientMetrics metrics = *outcome_of(options, parts).result.clients;
  EXPECT_EQ(metrics.own_models, 3);
  const ClientTable& table = *metrics.table;
  ASSERT_EQ(table.test_accuracy.size(), 10U);
  ASSERT_EQ(table.personal_test_accuracy.size(), 10U);
  EXPECT_EQ(table.in_cohort, table.has_own_model);
  int differing = 0;
  for (std::size_t client = 0; client < 10; ++client) {
    const bool differs = table.personal_test_accuracy[client] != table.test_accuracy[client];
    EXPECT_TRUE(table.has_own_model[client] || !differs) << client;
    differing += differs ? 1 : 0;
  }
  EXPECT_GT(differing, 0);
  EXPECT_EQ(metrics.personal_test_accuracy->cohort.count, 3);
}

TEST_F(PersonalIdentity, ClientsWithoutTestSamplesAreLeftOutOfTheDistribution) {
  ClientIndex index(200);
  index.add(std::vector<std::uint32_t>{0});
  std::vector<std::uint32_t> others;
  for (std::uint32_t i = 1; i < 50; ++i) {
    others.push_back(i);
  }
  index.add(others);
  const DividedClients parts =
      divide_clients(partitioned_clients(testing::small_dataset(200, 1), std::move(index)), {});
  FederatedOptions options = with(PersonalizationKind::kFineTune);
  options.cohort.size = 2;
  options.evaluate_clients_every_rounds = 6;
  const ClientMetrics metrics = *outcome_of(options, parts).result.clients;
  EXPECT_EQ(metrics.accuracy_all.count, 2);
  EXPECT_EQ(metrics.test_accuracy->all.count, 1);
  EXPECT_EQ(metrics.personal_test_accuracy->all.count, 1);
  EXPECT_TRUE(std::isnan(metrics.table->test_accuracy[0]));
  EXPECT_TRUE(std::isnan(metrics.table->personal_test_accuracy[0]));
}

// The global path is finite; only the personal model's rate is absurd.
TEST_F(PersonalIdentity, APersonalModelThatDivergesIsNamedAndTheOneBeforeStays) {
  const Model model = small_model();
  const auto clients = small_clients(kUneven);
  FederatedOptions options = with(PersonalizationKind::kDitto);
  options.rounds = 1;
  options.personalization.learning_rate = 1e30;
  options.personalization.epochs = 3;  // a client of one batch overflows in its second step
  const std::vector<float> after = model_after(options, clients);
  EXPECT_TRUE(std::all_of(after.begin(), after.end(), [](float v) { return std::isfinite(v); }));
  const ClientStore store(store_ / "personal", model.layout().size(), 1);
  EXPECT_EQ(store.num_touched(), 5);
  for (std::int64_t client = 0; client < 10; ++client) {
    if (store.is_touched(client)) {
      EXPECT_EQ(state_of(client, model.layout().size()), initial_model(model));
    }
  }
}

}  // namespace
}  // namespace superstep::worker
