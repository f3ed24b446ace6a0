// A round of federated averaging as the framework does it against a loop written by hand over the
// same recorded steps, in turn in one run.
//
//   worker_federated_benchmark [ROUNDS]        # one rank; default: 9 rounds of each side
//
// By hand: for every client copy the model, shuffle, for every batch gather the samples, run the
// recorded step (worker/step_programs.h), step; add the weighted model to a row of floats; divide
// in the end. No ring, no check of updates, no records, no placement, no exchange, no
// synchronisation. The ratio is what all these cost; above 1 the framework is slower.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/aligned.h"
#include "bsp/environment.h"
#include "bsp/measure_in_turn.h"
#include "bsp/world.h"
#include "kernels/threads.h"
#include "worker/data/dataset.h"
#include "worker/federated/federated_trainer.h"
#include "worker/federated/partition.h"
#include "worker/step_programs.h"

namespace {

using superstep::AlignedBuffer;
using superstep::bsp::ratio_of;
using superstep::bsp::Series;
using superstep::bsp::Spread;
using superstep::bsp::spread_of;
using superstep::bsp::World;
using superstep::kernels::DType;
using superstep::kernels::Shape;
using superstep::kernels::Tensor;
using superstep::worker::ClientIndex;
using superstep::worker::Dataset;
using superstep::worker::FederatedOptions;
using superstep::worker::FederatedTrainer;
using superstep::worker::Model;
using superstep::worker::Normalization;
using superstep::worker::PartitionKind;
using superstep::worker::SlotBatch;
using superstep::worker::StepPrograms;

constexpr float kRate = 0.01F;
constexpr std::int64_t kBatch = 10;
constexpr std::int64_t kCohort = 10;
constexpr int kClasses = 10;

struct Case {
  std::string_view name;
  std::string_view preset;
  std::int64_t clients = 0;
  std::int64_t samples_per_client = 0;
};

// The first has the size of FLUTE's published job, the others of McMahan's.
constexpr Case kCases[] = {{"softmax, clients of 60", "softmax_regression", 200, 60},
                           {"2NN, clients of 600", "mlp_2nn", 20, 600},
                           {"CNN, clients of 600", "mcmahan_cnn", 20, 600}};

std::shared_ptr<const Dataset> dataset_of(const Case& one) {
  return superstep::worker::synthetic_dataset(
      {.num_samples = one.clients * one.samples_per_client, .sample_shape = {1, 28, 28}});
}

ClientIndex index_of(const Case& one, const Dataset& dataset) {
  return superstep::worker::make_partition(
      dataset.labels(), kClasses, {.kind = PartitionKind::kIid, .num_clients = one.clients});
}

class ByHand {
 public:
  ByHand(const Model& model, std::shared_ptr<const Dataset> dataset, ClientIndex index)
      : model_(model),
        dataset_(std::move(dataset)),
        index_(std::move(index)),
        global_(model.layout().size()),
        parameters_(model.layout().size()),
        gradient_(model.layout().size()),
        sum_(model.layout().size()),
        programs_(model, parameters_.span(), {}) {
    model.initialize(1, global_.span());
  }

  void round() {
    std::fill(sum_.span().begin(), sum_.span().end(), 0.0F);
    float weights = 0.0F;
    for (std::int64_t i = 0; i < kCohort; ++i) {
      const auto client =
          static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(index_.num_clients()));
      train(client);
      const auto weight = static_cast<float>(index_.num_samples(client));
      const float* __restrict own = parameters_.data();
      float* __restrict sum = sum_.data();
      for (std::int64_t j = 0; j < sum_.size(); ++j) {
        sum[j] += weight * own[j];
      }
      weights += weight;
    }
    for (std::int64_t j = 0; j < sum_.size(); ++j) {
      global_.data()[j] = sum_.data()[j] / weights;
    }
  }

 private:
  void train(std::int64_t client) {
    std::copy(global_.span().begin(), global_.span().end(), parameters_.span().begin());
    const std::span<const std::uint32_t> samples = index_.samples(client);
    order_.assign(samples.begin(), samples.end());
    std::shuffle(order_.begin(), order_.end(), random_);
    const auto count = static_cast<std::int64_t>(order_.size());
    for (std::int64_t first = 0; first < count; first += kBatch) {
      const std::int64_t length = std::min(kBatch, count - first);
      SlotBatch& batch = batch_of(length);
      const std::span<std::int64_t> ids = batch.sample_ids.mutable_data<std::int64_t>();
      std::copy_n(order_.begin() + first, length, ids.begin());
      dataset_->read(ids, Normalization::unit(), batch.images.mutable_data<float>(),
                     batch.labels.mutable_data<std::int64_t>());
      programs_.train(batch, 0, gradient_.span());
      const float* __restrict g = gradient_.data();
      float* __restrict w = parameters_.data();
      const float rate = kRate / static_cast<float>(length);
      for (std::int64_t j = 0; j < parameters_.size(); ++j) {
        w[j] -= rate * g[j];
      }
    }
  }

  SlotBatch& batch_of(std::int64_t length) {
    SlotBatch& batch = batches_[length];
    if (!batch.images.defined()) {
      batch.images = Tensor::zeros(Shape{length, 1, 28, 28}, DType::kFloat32);
      batch.labels = Tensor::zeros(Shape{length}, DType::kInt64);
      batch.sample_ids = Tensor::zeros(Shape{length}, DType::kInt64);
    }
    return batch;
  }

  const Model& model_;
  std::shared_ptr<const Dataset> dataset_;
  ClientIndex index_;
  AlignedBuffer<float> global_;
  AlignedBuffer<float> parameters_;
  AlignedBuffer<float> gradient_;
  AlignedBuffer<float> sum_;
  StepPrograms programs_;
  std::map<std::int64_t, SlotBatch> batches_;
  std::vector<std::int64_t> order_;
  std::mt19937_64 random_{1};
};

void compare(World& world, const Case& one, int rounds) {
  const Model model =
      Model::build(superstep::worker::preset(one.preset, kClasses), {1, 28, 28}, kClasses);
  const std::shared_ptr<const Dataset> dataset = dataset_of(one);
  FederatedOptions options;
  options.cohort.size = kCohort;
  options.local = {.batch = kBatch, .learning_rate = kRate, .normalization = Normalization::unit()};
  FederatedTrainer trainer(world, model,
                           superstep::worker::partitioned_clients(dataset, index_of(one, *dataset)),
                           options);
  std::vector<float> initial(static_cast<std::size_t>(model.layout().size()));
  model.initialize(1, initial);
  trainer.load_parameters(initial);
  ByHand by_hand(model, dataset, index_of(one, *dataset));
  const std::function<void()> contenders[] = {[&] { trainer.run_round(); },
                                              [&] { by_hand.round(); }};
  const std::vector<Series> times =
      measure_in_turn(world, contenders, {.rounds = rounds, .seconds_per_round = 1.0});
  const Spread ours = spread_of(times[0]);
  const Spread theirs = spread_of(times[1]);
  const Spread ratio = ratio_of(times[0], times[1]);
  fmt::print("| {} | {:.3f} ({:.3f}-{:.3f}) | {:.3f} ({:.3f}-{:.3f}) | {:.3f} ({:.3f}-{:.3f}) |\n",
             one.name, 1e3 * ours.median, 1e3 * ours.low, 1e3 * ours.high, 1e3 * theirs.median,
             1e3 * theirs.low, 1e3 * theirs.high, ratio.median, ratio.low, ratio.high);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--benchmark_list_tests") {
    for (const Case& one : kCases) {
      fmt::print("{}\n", one.name);
    }
    return 0;
  }
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 9;
  superstep::bsp::Environment environment;
  return environment.run({}, [&](World& world) {
    superstep::kernels::set_team_size(1);
    fmt::print(
        "| round of {} clients, batch {} | framework ms | by hand ms | ratio |\n"
        "|---|---|---|---|\n",
        kCohort, kBatch);
    for (const Case& one : kCases) {
      compare(world, one, rounds);
    }
  });
}
