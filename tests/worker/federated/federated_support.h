// A small federated problem for tests: 8x8 images of 5 classes and a model of a few hundred
// parameters.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bsp/world.h"
#include "kernels/threads.h"
#include "worker/data/dataset.h"
#include "worker/federated/federated_trainer.h"
#include "worker/federated/partition.h"
#include "worker/model.h"

namespace superstep::testing {

inline worker::Model small_model() {
  const worker::Sequential layers{worker::Flatten{}, worker::Dense{.units = 12}, worker::Relu{},
                                  worker::Dense{.units = 5}};
  return worker::Model::build(layers, {1, 8, 8}, 5);
}

inline std::shared_ptr<const worker::Dataset> small_dataset(std::int64_t num_samples,
                                                            std::uint64_t seed) {
  return worker::synthetic_dataset(
      {.num_samples = num_samples, .sample_shape = {1, 8, 8}, .num_classes = 5, .seed = seed});
}

inline std::shared_ptr<const worker::ClientData> small_clients(
    const worker::PartitionOptions& partition, std::int64_t num_samples = 200) {
  const auto dataset = small_dataset(num_samples, 1);
  return worker::partitioned_clients(
      dataset, worker::make_partition(dataset->labels(), dataset->num_classes(), partition));
}

inline constexpr worker::PartitionOptions kUneven{
    .kind = worker::PartitionKind::kDirichlet, .num_clients = 10, .alpha = 0.5, .seed = 2};

inline constexpr worker::PartitionOptions kElevenUneven{
    .kind = worker::PartitionKind::kDirichlet, .num_clients = 11, .alpha = 0.5, .seed = 2};

inline worker::FederatedOptions small_options() {
  worker::FederatedOptions options;
  options.rounds = 20;
  options.cohort = {.size = 5, .seed = 3};
  options.local = {.epochs = 1,
                   .batch = 4,
                   .learning_rate = 0.1,
                   .seed = 3,
                   .normalization = worker::Normalization::unit()};
  options.evaluate_every_rounds = 5;
  options.evaluation_batch = 40;
  options.evaluation_slots = 3;
  return options;
}

// Every client's noise is a function of the seed.
inline worker::FederatedOptions private_options() {
  worker::FederatedOptions options = small_options();
  options.rounds = 8;
  options.cohort.sampling = worker::Sampling::kPoisson;
  options.algorithm.weighting = worker::Weighting::kUniform;
  options.privacy = {.kind = worker::PrivacyKind::kDpFedAvg,
                     .clip = 0.5,
                     .noise_multiplier = 2.0,
                     .clipping = worker::Clipping::kAdaptive,
                     .count_noise = 4.0,
                     .noise_source = worker::NoiseSource::kTest};
  return options;
}

struct FederatedOutcome {
  worker::FederatedResult result;
  std::vector<float> parameters;
};

inline FederatedOutcome run_federated(
    bsp::World& world, const worker::Model& model,
    std::shared_ptr<const worker::ClientData> clients, const worker::FederatedOptions& options,
    const std::filesystem::path& resume_from = {},
    const std::shared_ptr<const worker::ClientData>& tests = nullptr) {
  kernels::set_team_size(1);
  worker::FederatedTrainer trainer(world, model, std::move(clients), options);
  std::vector<float> parameters(static_cast<std::size_t>(model.layout().size()));
  model.initialize(options.local.seed, parameters);
  if (resume_from.empty()) {
    trainer.load_parameters(parameters);
  } else {
    trainer.restore(paramserver::CheckpointReader(resume_from));
  }
  FederatedOutcome outcome;
  outcome.result = trainer.fit(small_dataset(50, 2), nullptr, tests);
  outcome.parameters.assign(trainer.parameters().begin(), trainer.parameters().end());
  return outcome;
}

// The oracle: on a world of one rank each, with a client store of its own below `directory`.
inline FederatedOutcome run_federated_alone(bsp::World& world, const worker::Model& model,
                                            worker::FederatedOptions options,
                                            const std::filesystem::path& directory) {
  bsp::World alone = world.split(world.rank(), 0);
  options.client_store = directory / std::to_string(world.rank());
  return run_federated(alone, model, small_clients(kElevenUneven), options);
}

}  // namespace superstep::testing
