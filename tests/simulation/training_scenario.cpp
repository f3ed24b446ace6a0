#include "tests/simulation/training_scenario.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "kernels/threads.h"
#include "paramserver/collocated_server.h"
#include "tests/simulation/reference_run.h"
#include "worker/data/dataset.h"
#include "worker/model.h"
#include "worker/trainer.h"

namespace superstep::simulation {

namespace {

namespace fs = std::filesystem;

constexpr int kSlots = 6;
constexpr int kKeepAll = 1000;

// Three blocks of parameters, so that three ranks own a shard each.
const worker::Model& trained_model() {
  static const worker::Model model = worker::Model::build(
      worker::Sequential{worker::Flatten{}, worker::Dense{.units = 128}, worker::Relu{},
                         worker::Dropout{.rate = 0.25}, worker::Dense{.units = 5}},
      {1, 8, 8}, 5);
  return model;
}

std::shared_ptr<const worker::Dataset> images(std::int64_t num_samples, std::uint64_t seed) {
  return worker::synthetic_dataset(
      {.num_samples = num_samples, .sample_shape = {1, 8, 8}, .num_classes = 5, .seed = seed});
}

// Two epochs of three steps; the last step of an epoch is short, and leaves slots empty.
const worker::TrainingData& training_data() {
  static const worker::TrainingData data{
      .train = images(29, 1), .validation = images(12, 2), .test = nullptr};
  return data;
}

struct TrainingPlan {
  worker::TrainOptions options;
  paramserver::SlotDealing dealing = paramserver::SlotDealing::kAsPlaced;
};

TrainingPlan reference_plan() {
  TrainingPlan plan;
  plan.options.epochs = 2;
  plan.options.batch = {.global_batch = 12, .microbatches = kSlots, .seed = 3};
  plan.options.evaluation_batch = 12;
  plan.options.evaluation_slots = 3;
  plan.options.checkpoint.directory = fs::path(kRoot) / "run/checkpoints";
  plan.options.checkpoint.every_supersteps = 1;
  plan.options.checkpoint.keep = kKeepAll;
  return plan;
}

TrainingPlan draw_plan(PhiloxStream& random) {
  TrainingPlan plan = reference_plan();
  worker::CheckpointOptions& checkpoint = plan.options.checkpoint;
  checkpoint.every_supersteps = 1 + static_cast<std::int64_t>(random.below(3));
  checkpoint.keep = 1 + static_cast<int>(random.below(3));
  checkpoint.keep_best = random.below(2) == 0;
  checkpoint.asynchronous = random.below(3) != 0;
  plan.options.placement = static_cast<worker::SlotPlacement>(random.below(3));
  if (random.below(2) == 0) {
    plan.options.placement = worker::SlotPlacement::kContiguous;
    plan.dealing = paramserver::SlotDealing::kStealing;
  }
  return plan;
}

class WrittenObserver : public worker::TrainObserver {
 public:
  explicit WrittenObserver(RunRecord& record) : record_(record) {}
  void on_checkpoint(const fs::path&, std::int64_t superstep, double /*seconds*/) override {
    record_.note_written(superstep);
  }

 private:
  RunRecord& record_;
};

void train(bsp::World& world, const TrainingPlan& plan, const Checkpoint& resume_from,
           RunRecord& record) {
  kernels::set_team_size(1);
  const worker::Model& model = trained_model();
  paramserver::CollocatedOptions server_options;
  server_options.optimizer = {.kind = paramserver::OptimizerKind::kMomentum, .learning_rate = 0.05};
  server_options.num_slots = kSlots;
  server_options.dealing = plan.dealing;
  server_options.verify_every = 2;
  paramserver::CollocatedServer server(world, model.layout(), server_options);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(plan.options.batch.seed, parameters);
  server.load_parameters(parameters);
  WrittenObserver observer(record);
  worker::Trainer trainer(world, model, server, plan.options, &observer);
  if (resume_from.has_value()) {
    trainer.restore(paramserver::CheckpointReader(*resume_from));
  }
  const worker::TrainResult result = trainer.fit(training_data());
  record.ends.push_back(to_text(result.parameters_hash) + " " + to_text(result.state_hash));
}

SupervisedRun make_run(const TrainingPlan& plan) {
  SupervisedRun run;
  run.checkpoints = plan.options.checkpoint.directory;
  run.keep = plan.options.checkpoint.keep + (plan.options.checkpoint.keep_best ? 1 : 0);

  run.body = [plan](bsp::World& world, const Checkpoint& resume_from, RunRecord& record) {
    train(world, plan, resume_from, record);
  };
  return run;
}

}  // namespace

Problem run_training_seed(std::uint64_t seed) {
  static const ReferenceRun reference = make_reference(make_run(reference_plan()));
  Simulation simulation(seed);
  const TrainingPlan plan = draw_plan(simulation.random());
  SupervisedRun run = make_run(plan);
  compare_with(reference, plan.options.checkpoint.every_supersteps, run);
  make_run_directory(simulation, run.checkpoints.parent_path());
  return supervise(simulation, run);
}

}  // namespace superstep::simulation
