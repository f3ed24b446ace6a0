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
// and one row of sums per rank (replicas of the model more for personal models, for held-out
// clients and for test samples of clients), nothing per client; asynchronous runs keep older models
// (model_versions.h), FedAsync up to four models per rank more. Cost of a round: w of the largest
// rank + one allgather of 112 bytes per client + 2 l.
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
#include "worker/federated/audit.h"
#include "worker/federated/client_data.h"
#include "worker/federated/client_metrics.h"
#include "worker/federated/cohort.h"
#include "worker/federated/compression.h"
#include "worker/federated/device_model.h"
#include "worker/federated/local_trainer.h"
#include "worker/federated/norm_bounds.h"
#include "worker/federated/personalization.h"
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
  NormOptions norms;
  CompressionOptions compression;
  AttackOptions attack;
  PersonalizationOptions personalization;
  DeviceOptions device;          // speed kNone: no virtual time
  TimingOptions timing;          // of synchronous rounds
  AsynchronyOptions asynchrony;  // with it a round is an update of the model
  DataMode data_mode = DataMode::kShared;
  double update_bound = 16.0;  // elements of updates beyond it are rejected; see most_clip()
  int ring_bits = 64;
  std::int64_t evaluate_every_rounds = 1;
  std::int64_t evaluate_clients_every_rounds = 0;  // every client's own accuracy; 0: never
  std::int64_t evaluation_batch = 1000;
  int evaluation_slots = 8;
  CheckpointOptions checkpoint;        // every_supersteps counts rounds
  std::filesystem::path client_store;  // needed where clients have state
  std::chrono::seconds wall_time_limit{0};
  Audit* audit = nullptr;  // of this rank, to look at all that leaves it; outlives the trainer
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
  std::vector<std::int64_t> diverged;  // clients whose personal model was no longer finite
  bool has_effect = true;    // false: too few updates were accepted, the model stayed as it was
  std::int64_t samples = 0;  // visits of samples by accepted clients
  std::int64_t steps = 0;
  // What would be on the wire: of accepted clients their updates, compressed, and controls; to
  // every client of the cohort the model and, where there is one, the server's control.
  std::int64_t upload_bytes = 0;
  std::int64_t download_bytes = 0;
  double train_loss = 0.0;  // mean over those visits; NaN without any
  double train_accuracy = 0.0;
  double client_seconds = 0.0;  // sum over clients
  double seconds = 0.0;         // of the round, evaluation left out
  double client_learning_rate = 0.0;
  bsp::SuperstepRecord record;  // of this rank
  std::optional<PrivacyRound> privacy;
  std::optional<NormRound> norms;
  std::optional<RoundTiming> timing;  // with virtual time
  std::optional<ClientMetrics> clients;
  std::optional<Evaluation> test;
};

class FederatedObserver {
 public:
  virtual ~FederatedObserver() = default;
  virtual void on_round(const RoundReport&) {}
  // Of a private run, before the round's noise is drawn; `round` counts from 1.
  virtual void on_private_round(std::int64_t /*round*/, const PrivacyRound&) {}
  // With an audit, after every round and at the end: what left every rank since the last time.
  virtual void on_audit(std::int64_t /*round*/, std::span<const AuditEntry>) {}
  virtual void on_checkpoint(const std::filesystem::path&, std::int64_t /*round*/,
                             double /*seconds*/) {}
};

struct FederatedResult {
  StopReason reason = StopReason::kFinished;
  std::optional<Evaluation> test;
  Hash128 parameters_hash;
  Hash128 state_hash;
  std::int64_t rounds = 0;
  std::int64_t client_rounds = 0;
  std::int64_t client_rounds_of_start = 0;  // the others are of all rounds since the run began
  std::int64_t rejected = 0;
  std::int64_t rounds_without_effect = 0;
  std::int64_t upload_bytes = 0;
  std::int64_t download_bytes = 0;
  std::optional<PrivacyRound> privacy;   // of all rounds together
  std::optional<ClockTotals> time;       // since the run began
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
  // accuracies are reported beside those of the others, and `client_tests`, what the clients keep
  // for tests (divide_clients). Throws InvalidArgument when personal models are to be judged and it
  // is null, or of another number of clients, and DataError (exit code 6) on every rank when the
  // model is no number after a round, naming round and rank, and when no update was accepted in ten
  // rounds in a row (in all rounds of a shorter run), naming clients and reasons.
  FederatedResult fit(const std::shared_ptr<const Dataset>& test,
                      const std::shared_ptr<const ClientData>& held_out = nullptr,
                      const std::shared_ptr<const ClientData>& client_tests = nullptr);
  // Collective. One round, without evaluation or checkpoint.
  RoundReport run_round();

  std::span<const float> parameters() const;
  paramserver::RingFormat ring() const;
  paramserver::MemoryUse memory_use() const;

 private:
  struct State;  // worker/federated/federated_state.h
  std::unique_ptr<State> state_;
};

// Checks options against clients and model without communication, as the constructor does; returns
// the ring that a round will use.
paramserver::RingFormat check_federated(const FederatedOptions& options, const ClientData& clients,
                                        const paramserver::ParameterLayout& layout);

// What a private run will have spent after its last round, tight epsilon included: nothing of it
// depends on data. nullopt without privacy. Costs up to some seconds.
std::optional<PrivacyRound> projected_privacy(const FederatedOptions& options,
                                              const ClientData& clients,
                                              const paramserver::ParameterLayout& layout);

}  // namespace superstep::worker
