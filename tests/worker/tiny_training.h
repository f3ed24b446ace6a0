// A training that is small and has everything that could depend on the world: batch norm, dropout,
// a residual block, an uneven last batch, slots without samples.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "bsp/world.h"
#include "kernels/threads.h"
#include "paramserver/collocated_server.h"
#include "worker/trainer.h"

namespace superstep::worker::tiny {

inline constexpr int kSlots = 12;  // at least as many as the largest test world

// Batch norm, dropout and a residual block on 1x8x8 images.
inline Model tiny_model() {
  const Sequential layers{
      Conv2d{.filters = 4, .bias = false},
      BatchNorm{},
      Relu{},
      Residual{{Conv2d{.filters = 8, .stride = 2, .bias = false}, BatchNorm{}, Relu{}}},
      Flatten{},
      Dropout{.rate = 0.25},
      Dense{.units = 5}};
  return Model::build(layers, {1, 8, 8}, 5);
}

inline std::shared_ptr<const Dataset> data(std::int64_t num_samples, std::uint64_t seed) {
  return synthetic_dataset(
      {.num_samples = num_samples, .sample_shape = {1, 8, 8}, .num_classes = 5, .seed = seed});
}

inline TrainOptions tiny_options() {
  TrainOptions options;
  options.epochs = 3;
  options.batch = {.global_batch = 32, .microbatches = kSlots, .seed = 3};
  options.evaluation_batch = 40;
  options.evaluation_slots = 3;
  return options;
}

// 75 samples: two full batches and an uneven third one, whose slots have 0 or 1 samples.
inline TrainingData tiny_data() {
  return {.train = data(75, 1), .validation = data(24, 2), .test = data(50, 3)};
}

struct TrainingOutcome {
  TrainResult result;
  std::vector<double> losses;  // of every step
};

class LossRecorder : public TrainObserver {
 public:
  explicit LossRecorder(std::vector<double>& losses) : losses_(losses) {}
  void on_step(const StepReport& report) override {
    losses_.push_back(report.result.total.loss_sum);
  }

 private:
  std::vector<double>& losses_;
};

inline paramserver::CollocatedOptions server_options() {
  paramserver::CollocatedOptions options;
  options.optimizer = {
      .kind = paramserver::OptimizerKind::kMomentum, .learning_rate = 0.05, .weight_decay = 1e-4};
  options.num_slots = kSlots;
  return options;
}

inline TrainingOutcome train_with(bsp::World& world, const TrainOptions& options,
                                  const paramserver::CollocatedOptions& for_server,
                                  const std::filesystem::path& resume_from = {},
                                  const TrainingData& training_data = tiny_data()) {
  kernels::set_team_size(1);
  const Model model = tiny_model();
  paramserver::CollocatedServer server(world, model.layout(), for_server);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(options.batch.seed, parameters);
  server.load_parameters(parameters);
  TrainingOutcome outcome;
  LossRecorder recorder(outcome.losses);
  Trainer trainer(world, model, server, options, &recorder);
  if (!resume_from.empty()) {
    trainer.restore(paramserver::CheckpointReader(resume_from));
  }
  outcome.result = trainer.fit(training_data);
  return outcome;
}

inline TrainingOutcome train(bsp::World& world, const TrainOptions& options,
                             const std::filesystem::path& resume_from = {}) {
  return train_with(world, options, server_options(), resume_from);
}

inline TrainingOutcome train_alone(bsp::World& world, const TrainOptions& options) {
  bsp::World alone = world.split(world.rank(), 0);
  return train(alone, options);
}

inline void expect_same_bits(const TrainingOutcome& outcome, const TrainingOutcome& oracle) {
  EXPECT_EQ(to_text(outcome.result.parameters_hash), to_text(oracle.result.parameters_hash));
  EXPECT_EQ(outcome.losses, oracle.losses);
  ASSERT_TRUE(outcome.result.test.has_value() && oracle.result.test.has_value());
  EXPECT_EQ(outcome.result.test->loss, oracle.result.test->loss);
  EXPECT_EQ(outcome.result.test->accuracy, oracle.result.test->accuracy);
}

}  // namespace superstep::worker::tiny
