// Federated training: rounds of clients that train on their own data, one round a superstep.
//
//   FederatedTrainer trainer(world, model, clients, options);
//   trainer.load_parameters(initial);              // or trainer.restore(reader)
//   FederatedResult result = trainer.fit(test);
//
// A round: every rank knows the cohort (worker/federated/cohort.h) and the placement
// (placement.h), trains its clients one by one from the published model (local_trainer.h), and adds
// their updates to its integer sums; the owners of the shards make the mean and step on the model
// (paramserver/federated_server.h).
//
// Guarantees: the model after any round has the same bits for every number of ranks and threads and
// every placement of clients, and after a resume on another number of ranks. An update that is not
// finite, or outside the ring's bound, is rejected, counted and named. Memory: one model replica
// and one row of sums per rank, nothing per client; asynchronous runs keep older models
// (model_versions.h), FedAsync up to four models per rank more. Cost of a round: w of the largest
// rank + one allgather of 80 bytes per client + 2 l.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "bsp/superstep_record.h"
#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/ring.h"
#include "paramserver/server.h"
#include "worker/data/dataset.h"
#include "worker/evaluator.h"
#include "worker/federated/algorithm.h"
#include "worker/federated/asynchrony.h"
#include "worker/federated/client_data.h"
#include "worker/federated/client_metrics.h"
#include "worker/federated/cohort.h"
#include "worker/federated/compression.h"
#include "worker/federated/device_model.h"
#include "worker/federated/local_trainer.h"
#include "worker/federated/placement.h"
#include "worker/federated/privacy/privacy.h"
#include "worker/federated/robust.h"
#include "worker/federated/round_timing.h"
#include "worker/model.h"
#include "worker/trainer.h"

namespace superstep::worker {

struct FederatedOptions {
  std::int64_t rounds = 1;
  CohortOptions cohort;
  LocalOptions local;
  AlgorithmOptions algorithm;
  PrivacyOptions privacy;
  RobustOptions robust;
  CompressionOptions compression;
  AttackOptions attack;
  DeviceOptions device;          // speed kNone: no virtual time
  TimingOptions timing;          // of synchronous rounds
  AsynchronyOptions asynchrony;  // with it a round is an update of the model
  DataMode data_mode = DataMode::kShared;
  double update_bound = 16.0;  // elements of updates beyond it are rejected
  int ring_bits = 64;
  std::int64_t evaluate_every_rounds = 1;
  std::int64_t evaluate_clients_every_rounds = 0;  // every client's own accuracy; 0: never
  std::int64_t evaluation_batch = 1000;
  int evaluation_slots = 8;
  CheckpointOptions checkpoint;        // every_supersteps counts rounds
  std::filesystem::path client_store;  // needed by algorithms with client state
  std::chrono::seconds wall_time_limit{0};
};

enum class Rejection : std::uint8_t { kNone, kNotFinite, kOutOfRange };
std::string_view name_of(Rejection rejection);

struct RejectedClient {
  std::int64_t client = 0;
  Rejection reason = Rejection::kNone;
};

struct RoundReport {
  std::int64_t round = 0;  // rounds done, this one included
  std::int64_t cohort = 0;
  std::vector<RejectedClient> rejected;
  std::int64_t samples = 0;  // visits of samples by accepted clients
  std::int64_t steps = 0;
  std::int64_t upload_bytes = 0;  // updates of accepted clients, compressed
  double train_loss = 0.0;        // mean over those visits; NaN without any
  double train_accuracy = 0.0;
  double client_seconds = 0.0;  // sum over clients
  double seconds = 0.0;         // of the round, evaluation left out
  double client_learning_rate = 0.0;
  bsp::SuperstepRecord record;  // of this rank
  std::optional<PrivacyRound> privacy;
  std::optional<RoundTiming> timing;  // with virtual time
  std::optional<ClientMetrics> clients;
  std::optional<Evaluation> test;
};

class FederatedObserver {
 public:
  virtual ~FederatedObserver() = default;
  virtual void on_round(const RoundReport&) {}
  virtual void on_checkpoint(const std::filesystem::path&, std::int64_t /*round*/,
                             double /*seconds*/) {}
};

struct FederatedResult {
  StopReason reason = StopReason::kFinished;
  std::optional<Evaluation> test;
  Hash128 parameters_hash;
  Hash128 state_hash;
  std::int64_t rounds = 0;
  std::int64_t client_rounds = 0;        // of this start
  std::int64_t rejected = 0;             // of this start
  std::int64_t upload_bytes = 0;         // of this start
  std::optional<PrivacyRound> privacy;   // of all rounds together
  std::optional<ClockTotals> time;       // of this start; its end since the run began
  std::optional<ClientMetrics> clients;  // of the last evaluation of clients
  double best_accuracy = 0.0;
  std::int64_t best_round = -1;
  double train_seconds = 0.0;
  std::filesystem::path last_checkpoint;
};

class FederatedTrainer {
 public:
  // Collective. All referenced objects must outlive the trainer; observer may be null. Throws
  // InvalidArgument when the options are impossible: a cohort larger than the population, a ring
  // too narrow, client state without a store.
  FederatedTrainer(bsp::World& world, const Model& model, std::shared_ptr<const ClientData> clients,
                   FederatedOptions options, FederatedObserver* observer = nullptr);
  FederatedTrainer(const FederatedTrainer&) = delete;
  FederatedTrainer& operator=(const FederatedTrainer&) = delete;
  ~FederatedTrainer();

  // Collective. The same buffer on every rank.
  void load_parameters(std::span<const float> buffer);
  void restore(const paramserver::CheckpointReader& reader);
  // Collective. `test` may be null; so may `held_out`, clients that never train and whose
  // accuracies are reported beside those of the others.
  FederatedResult fit(const std::shared_ptr<const Dataset>& test,
                      const std::shared_ptr<const ClientData>& held_out = nullptr);
  // Collective. One round, without evaluation or checkpoint.
  RoundReport run_round();

  std::span<const float> parameters() const;
  paramserver::RingFormat ring() const;
  paramserver::MemoryUse memory_use() const;

 private:
  struct State;  // worker/federated/federated_state.h
  std::unique_ptr<State> state_;
};

// Checks options against the clients without communication, as the constructor does; returns the
// ring that a round will use.
paramserver::RingFormat check_federated(const FederatedOptions& options, const ClientData& clients);

}  // namespace superstep::worker
