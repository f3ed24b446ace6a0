// The memory of a FederatedTrainer, shared by its source files (rounds, clients, checkpoints). Not
// part of the API.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/aligned.h"
#include "base/philox.h"
#include "paramserver/federated_server.h"
#include "worker/federated/client_store.h"
#include "worker/federated/federated_clock.h"
#include "worker/federated/federated_trainer.h"
#include "worker/federated/model_versions.h"
#include "worker/step_programs.h"

namespace superstep::worker {

// What a rank tells the others about a client it trained. Every field is a number that a double
// holds exactly, or a double.
struct ClientRecord {
  std::int64_t client = 0;
  Rejection rejection = Rejection::kNone;
  double weight = 0.0;       // in the sum of updates
  double denominator = 0.0;  // what it adds to the divisor
  std::int64_t samples = 0;
  std::int64_t correct = 0;
  std::int64_t steps = 0;
  double loss_sum = 0.0;
  double seconds = 0.0;
  std::int64_t bytes = 0;   // of its update on the wire
  bool is_within = false;   // privacy: its norm is within the bound
  std::uint32_t flags = 0;  // of the rank, on its header record
};

// The same on every rank.
struct RoundPlan {
  std::vector<std::int64_t> cohort;
  std::vector<Flight> flights;  // asynchronous: where the clients of `cohort` started
  RoundTiming timing;           // with virtual time
  std::vector<int> placement;
  double mean_steps = 0.0;  // FedNova: weighted mean of local steps
};

// What the client in work starts from, and how its model enters the sum. A synchronous round: the
// published model, this round, 1.
struct ClientStart {
  std::span<const float> model;      // it trains from
  std::span<const float> reference;  // what is subtracted from its model
  std::int64_t round = 0;            // keys its random numbers and its learning rate
  std::int64_t repetition = 0;       // so do its earlier starts from the same model
  double weight = 1.0;               // of its staleness; FedAsync: times the mixing
};

// A client that was trained before its report is used, on the rank that trained it. All ranks list
// the same ones; the others have no model.
struct TrainedClient {
  Flight flight;
  int rank = 0;
  std::vector<float> model;
  LocalResult result;
  double seconds = 0.0;
};

// q-FedAvg: a loss to the power q beyond this would leave no fraction bits.
inline constexpr double kMostLossWeight = 1024.0;

// Options with what the algorithm decides filled in: fedsgd is one step on the whole local set.
FederatedOptions completed(FederatedOptions options);
// federated_time_options.cpp
void check_time(const FederatedOptions& options, const ClientData& clients);

struct FederatedTrainer::State {
  State(bsp::World& the_world, const Model& the_model,
        std::shared_ptr<const ClientData> the_clients, FederatedOptions the_options,
        FederatedObserver* the_observer);

  // --- rounds (federated_trainer.cpp) ---
  std::vector<ClientRecord> share(const RoundPlan& plan, const std::vector<ClientRecord>& mine);
  paramserver::RoundScale scale_of(const std::vector<ClientRecord>& records) const;
  RoundReport round();
  void learn_from(const std::vector<ClientRecord>& records, RoundReport& report);
  PrivacyRound settle_privacy(const std::vector<ClientRecord>& records);
  std::uint32_t stop_flags() const;
  std::optional<StopReason> stop_reason() const;
  void evaluate_model(const Dataset& test);
  void evaluate_clients(LocalTrainer* held_out_trainer);

  // --- clients (federated_client.cpp) ---
  ClientRecord train_client(const RoundPlan& plan, std::size_t i);
  LocalResult train_alone(std::int64_t client);
  LocalRule rule_for(std::int64_t client);
  double base_weight(std::int64_t client) const;  // before an algorithm scales it
  double weight_of(const RoundPlan& plan, std::int64_t client) const;
  Rejection rejection() const;
  void contribute(std::int64_t client, ClientRecord& record);
  std::int64_t compress_update(std::int64_t client);
  void clip_update(std::int64_t client, ClientRecord& record) const;
  void contribute_q(ClientRecord& record, double mean_loss);
  bool contribute_control(std::int64_t client, const ClientRecord& record, bool check_only);
  double loss_before(std::int64_t client);

  // --- plans (federated_plan.cpp) ---
  TimedWork next_work();
  RoundPlan plan_round();
  void place(RoundPlan& plan) const;
  ClientStart start_of(const RoundPlan& plan, std::size_t i) const;
  PhiloxStream client_stream(std::string_view purpose, std::int64_t client) const;

  // --- virtual time (federated_time.cpp) ---
  void keep_versions();
  void note_time(const RoundPlan& plan, RoundReport& report);
  std::optional<ClockTotals> time_so_far() const;
  void save_clock(paramserver::Manifest& manifest) const;
  void restore_clock(const paramserver::CheckpointReader& reader);

  // --- FedAsync in parallel (federated_ahead.cpp) ---
  const TrainedClient* find_ahead(const Flight& flight) const;
  std::vector<Flight> known_flights(const RoundPlan& plan) const;
  void train_ahead(RoundPlan& plan);

  // --- robust rounds (federated_robust.cpp) ---
  void attack_alone(std::int64_t client);
  std::vector<std::vector<std::int64_t>> exchange_rows(const RoundPlan& plan,
                                                       const std::vector<ClientRecord>& records);
  std::vector<double> whole_distances(std::span<const double> blocks, std::size_t group);
  std::vector<double> robust_result(const std::vector<std::vector<std::int64_t>>& shard_rows);
  void apply_robust(const RoundPlan& plan, const std::vector<ClientRecord>& records);

  // --- checkpoints (federated_checkpoint.cpp) ---
  bool checkpoint_due() const;
  void save();
  paramserver::Manifest manifest() const;
  void restore(const paramserver::CheckpointReader& reader);

  bsp::World& world;
  const Model& model;
  std::shared_ptr<const ClientData> clients;
  FederatedOptions options;
  FederatedObserver* observer;
  paramserver::RingFormat ring;
  paramserver::FederatedServer server;
  LocalTrainer local;
  StepPrograms evaluation;  // of the published model
  std::optional<PrivacyEngine> privacy;
  std::optional<FederatedClock> clock;
  std::optional<ModelVersions> versions;  // asynchronous runs
  std::vector<TrainedClient> ahead;       // FedAsync
  ClientStart origin;                     // of the client in work
  std::vector<std::int64_t> last_cohort;  // ascending
  ClockTotals time_totals;                // of this start
  std::optional<ClientStore> store;
  std::optional<ClientStore> errors;    // error feedback of compression
  AlignedBuffer<float> client_state;    // of the client in work
  AlignedBuffer<float> shift;           // of its steps
  AlignedBuffer<float> control_update;  // for channel 1
  AlignedBuffer<float> compressed;      // update of the client in work, decoded
  std::vector<float> elements;          // the same without padding
  ClientCost cost;
  std::optional<ClientMetrics> client_metrics;
  std::shared_ptr<const ClientData> held_out;
  std::vector<std::vector<std::int64_t>> rows;  // robust rounds: updates of this rank's clients
  std::optional<PrivacyRound> last_privacy;
  std::int64_t rounds_done = 0;
  std::uint32_t flags = 0;  // of all ranks, in the last round
  std::optional<Evaluation> test;
  std::int64_t evaluated_at = -1;
  double best_accuracy = -1.0;
  std::int64_t best_round = -1;
  std::int64_t client_rounds = 0;
  std::int64_t rejected = 0;
  std::int64_t upload_bytes = 0;
  std::filesystem::path last_checkpoint;
  std::int64_t saved_at = -1;
  Hash128 saved_state_hash;
  std::chrono::steady_clock::time_point started;
};

}  // namespace superstep::worker
