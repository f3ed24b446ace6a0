#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/reference_run.h"
#include "tests/simulation/training_scenario.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/federated/federated_trainer.h"

namespace superstep::simulation {

namespace {

namespace fs = std::filesystem;

constexpr int kKeepEveryRound = 1000;
constexpr std::size_t kNumKinds = 8;

const std::shared_ptr<const worker::ClientData>& federated_clients() {
  static const std::shared_ptr<const worker::ClientData> clients = testing::small_clients(
      {.kind = worker::PartitionKind::kDirichlet, .num_clients = 9, .alpha = 0.5, .seed = 2}, 90);
  return clients;
}

// Cohorts that are drawn in three ways, one of them empty now and then; updates that are rejected,
// and attacked ones that a rule leaves out; clients with a state of their own.
worker::FederatedOptions reference_options(std::size_t kind) {
  worker::FederatedOptions options = testing::small_options();
  options.rounds = 5;
  options.evaluate_every_rounds = 100;
  options.cohort.size = 4;
  options.cohort.sampling =
      kind == 5 ? worker::Sampling::kPoisson : static_cast<worker::Sampling>(kind % 3);
  if (options.cohort.sampling == worker::Sampling::kWeighted) {
    options.algorithm.weighting = worker::Weighting::kUniform;
  }
  options.checkpoint.directory = fs::path(kRoot) / "run/checkpoints";
  options.checkpoint.every_supersteps = 1;
  options.checkpoint.keep = kKeepEveryRound;
  if (kind == 1) {
    options.algorithm.kind = worker::Algorithm::kFedAdam;
  } else if (kind == 2) {
    options.update_bound = 0.1;  // some updates are within, some not
  } else if (kind == 3) {
    options.robust.kind = worker::RobustKind::kMedian;
    options.algorithm.weighting = worker::Weighting::kUniform;
    options.attack = {.kind = worker::AttackKind::kSignFlip, .fraction = 0.3, .strength = 1.5};
  } else if (kind == 4) {
    options.attack = {.kind = worker::AttackKind::kGaussian, .fraction = 0.4, .strength = 1e6};
  } else if (kind == 5) {
    options.cohort.size = 1;
  } else if (kind >= 6) {
    options.algorithm.kind = kind == 6 ? worker::Algorithm::kScaffold : worker::Algorithm::kFedDyn;
    options.client_store = fs::path(kRoot) / "run/clients";
  }
  return options;
}

class RoundObserver : public worker::FederatedObserver {
 public:
  explicit RoundObserver(RunRecord& record) : record_(record) {}
  void on_checkpoint(const fs::path&, std::int64_t round, double /*seconds*/) override {
    record_.note_written(round);
  }

 private:
  RunRecord& record_;
};

void train_federated(bsp::World& world, const worker::FederatedOptions& options,
                     const Checkpoint& resume_from, RunRecord& record) {
  kernels::set_team_size(1);
  static const worker::Model model = testing::small_model();
  RoundObserver observer(record);
  worker::FederatedTrainer trainer(world, model, federated_clients(), options, &observer);
  if (resume_from.has_value()) {
    trainer.restore(paramserver::CheckpointReader(*resume_from));
  } else {
    std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
    model.initialize(options.local.seed, parameters);
    trainer.load_parameters(parameters);
  }
  const worker::FederatedResult result = trainer.fit(nullptr);
  record.ends.push_back(to_text(result.parameters_hash) + " " + to_text(result.state_hash));
}

SupervisedRun make_federated_run(const worker::FederatedOptions& options) {
  SupervisedRun run;
  run.checkpoints = options.checkpoint.directory;
  run.keep = options.checkpoint.keep;
  run.max_ranks = 5;

  run.body = [options](bsp::World& world, const Checkpoint& resume_from, RunRecord& record) {
    train_federated(world, options, resume_from, record);
  };
  return run;
}

const ReferenceRun& federated_reference(std::size_t kind) {
  static std::array<std::optional<ReferenceRun>, kNumKinds> references;
  if (!references[kind].has_value()) {
    references[kind] = make_reference(make_federated_run(reference_options(kind)));
  }
  return *references[kind];
}

}  // namespace

Problem run_federated_seed(std::uint64_t seed) {
  PhiloxStream random(seed, stream_id("simulation/federated"));
  const std::size_t kind = random.below(kNumKinds);
  const ReferenceRun& reference = federated_reference(kind);
  worker::FederatedOptions options = reference_options(kind);
  options.checkpoint.every_supersteps = 1 + static_cast<std::int64_t>(random.below(3));
  options.checkpoint.keep = 1 + static_cast<int>(random.below(3));
  options.checkpoint.asynchronous = random.below(3) != 0;
  SupervisedRun run = make_federated_run(options);
  compare_with(reference, options.checkpoint.every_supersteps, run);
  Simulation simulation(seed);
  make_run_directory(simulation, run.checkpoints.parent_path());
  return supervise(simulation, run);
}

}  // namespace superstep::simulation
