// What a client does in a round: steps of SGD on its own samples, from the global model.
//
//   LocalTrainer local(model, clients, options);
//   LocalResult result = local.train(global, client, round, {});
//   // local.parameters() is the client's model; the update is its difference from `global`
//
// A pure function of (global model, client, round, rule): the order of samples is keyed by (seed,
// client, round, epoch), so it does not matter which rank or thread trains a client, or after which
// other one. Batches of more than kChunkSamples samples are added up in chunks of that size, in
// order.
//
// One replica of the model per LocalTrainer. After the first client of a shape nothing is
// allocated. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "worker/data/batches.h"
#include "worker/federated/client_data.h"
#include "worker/model.h"
#include "worker/step_programs.h"

namespace superstep::worker {

// Bounds the memory of recorded steps; part of the numerical contract.
inline constexpr std::int64_t kChunkSamples = 128;

struct LocalOptions {
  std::int64_t epochs = 1;
  std::int64_t batch = 10;  // 0: all samples of the client
  double learning_rate = 0.1;
  double learning_rate_decay = 1.0;  // factor per round
  std::uint64_t seed = 1;
  Normalization normalization;
  kernels::Precision precision = kernels::Precision::kFloat32;  // of evaluation too
};

// Throws InvalidArgument that names the field.
void validate(const LocalOptions& options);

// w -= rate * (gradient_factor * g + proximal * (w - anchor) + shift); an empty shift is zero, an
// empty anchor is the model that training begins at.
struct LocalRule {
  float gradient_factor = 1.0F;
  float proximal = 0.0F;
  std::span<const float> shift = {};
  std::span<const float> anchor = {};
  // Counts a client's trainings with the same key `round`: each visits its samples in another
  // order.
  std::int64_t repetition = 0;
};

// kFlipped: label k becomes classes - 1 - k (an attack).
enum class Labels : std::uint8_t { kTrue, kFlipped };

struct LocalResult {
  std::int64_t steps = 0;
  std::int64_t samples = 0;  // visits
  std::int64_t correct = 0;  // of the model as it was before each step
  double loss_sum = 0.0;
};

class LocalTrainer {
 public:
  // `model` must outlive this object.
  LocalTrainer(const Model& model, std::shared_ptr<const ClientData> clients,
               const LocalOptions& options);

  // Begins at `start`, which has the model's layout.
  LocalResult train(std::span<const float> start, std::int64_t client, std::int64_t round,
                    const LocalRule& rule);
  // From the next read of samples on.
  void set_labels(Labels labels) { labels_ = labels; }
  const ClientData& clients() const { return *clients_; }
  // Is given the memory that samples are read into, before the first ones are; may be empty.
  using SampleWatch = std::function<void(std::span<const std::byte>)>;
  void set_sample_watch(SampleWatch watch) { watch_ = std::move(watch); }
  // The model of the client that was trained last.
  std::span<const float> parameters() const { return parameters_.span(); }
  std::span<float> mutable_parameters() { return parameters_.span(); }

  // Sums over the client's samples at `at`, without a step; the gradient's sum goes to `gradient`.
  LocalResult gradient_at(std::span<const float> at, std::int64_t client, std::int64_t round,
                          std::span<float> gradient);
  // Loss and correct predictions of `at` on the client's samples.
  LocalResult evaluate_at(std::span<const float> at, std::int64_t client);

  // Steps that train() makes with so many samples.
  static std::int64_t num_steps(const LocalOptions& options, std::int64_t num_samples);
  double rate_of(std::int64_t round) const;
  std::int64_t arena_bytes() const { return programs_.arena_bytes(); }

 private:
  const SlotBatch& read(std::int64_t client, std::span<const std::int64_t> positions);
  std::span<const std::int64_t> order(std::int64_t client, std::int64_t round, std::int64_t epoch,
                                      std::int64_t repetition, std::int64_t num_samples);
  // Sum of gradients over `positions` into gradient_.
  void add_gradient(std::int64_t client, std::span<const std::int64_t> positions,
                    std::int64_t epoch_key, LocalResult& result);
  void step(const LocalRule& rule, float rate, std::int64_t num_samples);

  const Model& model_;
  std::shared_ptr<const ClientData> clients_;
  LocalOptions options_;
  AlignedBuffer<float> parameters_;
  AlignedBuffer<float> gradient_;
  AlignedBuffer<float> chunk_;  // made when a batch has more than kChunkSamples samples
  StepPrograms programs_;
  Labels labels_ = Labels::kTrue;
  SampleWatch watch_;
  std::vector<std::int64_t> order_;
  std::map<std::int64_t, SlotBatch> batches_;  // by number of samples
};

}  // namespace superstep::worker
