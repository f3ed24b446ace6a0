// The memory of a FederatedTrainer, shared by its source files (rounds, clients, checkpoints). Not
// part of the API.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "base/philox.h"
#include "paramserver/checkpoint_writer.h"
#include "paramserver/federated_server.h"
#include "worker/federated/client_store.h"
#include "worker/federated/federated_clock.h"
#include "worker/federated/federated_trainer.h"
#include "worker/federated/model_versions.h"
#include "worker/federated/personal_models.h"
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
  std::int64_t bytes = 0;   // of what it sends on the wire
  bool is_within = false;   // privacy, clipping: its norm is within the bound
  bool is_usual = false;    // zeroing: its largest element is within the quantile
  bool diverged = false;    // personal model: not finite, the one before stays
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

// q-FedAvg, at the published model.
struct CohortLosses {
  std::vector<double> means;  // by place in the cohort, of this rank's clients; others are 0
  double exponent = 0.0;      // all F^q are divided by 2^exponent, so that none is above 1
};

// What a save waits for.
enum class SaveUntil : std::uint8_t { kBegun, kWritten };

// What the client in work starts from, and how its model enters the sum. A synchronous round: the
// published model, this round, 1.
struct ClientStart {
  std::span<const float> model;      // it trains from
  std::span<const float> reference;  // what is subtracted from its model
  std::int64_t round = 0;            // keys its random numbers and its learning rate
  std::int64_t repetition = 0;       // so do its earlier starts from the same model
  double weight = 1.0;               // of its staleness; FedAsync: times the mixing
};

struct LocalTraining {
  LocalResult result;
  bool layers_are_finite = true;  // personal ones, which nobody else looks at
};

// A client that was trained before its report is used, on the rank that trained it. All ranks list
// the same ones; the others have no model.
struct TrainedClient {
  Flight flight;
  int rank = 0;
  std::vector<float> model;
  LocalTraining training;
  double seconds = 0.0;
};

// Options with what the algorithm decides filled in: fedsgd is one step on the whole local set.
FederatedOptions completed(FederatedOptions options);
// federated_time_options.cpp
void check_time(const FederatedOptions& options, const ClientData& clients);

// Parameters and running statistics of these entries, without padding.
std::int64_t elements_on_the_wire(std::span<const paramserver::LayoutEntry> sent);

PrivacyEngine privacy_engine(const FederatedOptions& options, const ClientData& clients,
                             std::int64_t num_elements, const paramserver::RingFormat& ring);

struct FederatedTrainer::State {
  State(bsp::World& the_world, const Model& the_model,
        std::shared_ptr<const ClientData> the_clients, FederatedOptions the_options,
        FederatedObserver* the_observer);
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();

  // --- rounds (federated_trainer.cpp) ---
  std::vector<ClientRecord> share(const RoundPlan& plan, const std::vector<ClientRecord>& mine);
  paramserver::RoundScale scale_of(const RoundPlan& plan,
                                   const std::vector<ClientRecord>& records) const;
  RoundReport round();
  void learn_from(const std::vector<ClientRecord>& records, RoundReport& report);
  std::uint32_t stop_flags() const;
  std::optional<StopReason> stop_reason() const;
  void evaluate_model(const Dataset& test);

  // --- judging by client (federated_evaluation.cpp) ---
  void judge_held_out(const std::shared_ptr<const ClientData>& data);
  void judge_tests(const std::shared_ptr<const ClientData>& data);
  void evaluate_clients();
  void evaluate_on_own(const std::vector<std::int64_t>& cohort, ClientMetrics& metrics,
                       ClientTable& table);
  void evaluate_on_tests(const std::vector<std::int64_t>& cohort, ClientMetrics& metrics,
                         ClientTable& table);

  // --- what leaves this rank (federated_audit.cpp) ---
  void watch_samples();
  void watch_samples_of(const ClientData& data, LocalTrainer& reader) const;
  void note_round(const std::vector<ClientRecord>& mine);
  void note_checkpoint(std::span<const paramserver::ArrayPart> parts) const;
  void tell_audit() const;

  // --- clients (federated_client.cpp) ---
  ClientRecord train_client(const RoundPlan& plan, std::size_t i);
  LocalTraining train_alone(std::int64_t client);
  LocalRule rule_for(std::int64_t client);
  double base_weight(std::int64_t client) const;  // before an algorithm scales it
  double weight_of(const RoundPlan& plan, std::int64_t client) const;
  Rejection rejection() const;
  void contribute(std::int64_t client, ClientRecord& record);
  std::int64_t compress_update(std::int64_t client);
  void clip_update(std::int64_t client, ClientRecord& record) const;
  bool choose_labels(std::int64_t client);
  CohortLosses measure_losses(const RoundPlan& plan);
  std::int64_t control_bytes() const;  // of a client's second channel, either way
  void contribute_q(const RoundPlan& plan, ClientRecord& record);
  bool contribute_control(std::int64_t client, const ClientRecord& record, bool check_only);
  void clear_statistics(std::span<float> control) const;
  void measure_gradient(std::int64_t client);

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
  std::array<std::pair<std::string, std::int64_t*>, 8> time_counters();
  void save_clock(paramserver::Manifest& manifest);
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
  void geometric_median(paramserver::UpdateRows updates, std::span<double> result);
  std::optional<std::vector<double>> robust_result(
      const std::vector<std::vector<std::int64_t>>& shard_rows, std::int64_t num_rejected);
  // False when the rule could not be applied and the model stayed as it was.
  bool apply_robust(const RoundPlan& plan, std::vector<ClientRecord>& records);
  void forge(std::vector<ClientRecord>& records,
             std::vector<std::vector<std::int64_t>>& shard_rows);

  // --- privacy (federated_privacy.cpp) ---
  void draw_secret_sampling();
  std::optional<double> agreed_pld(std::int64_t further);
  void open_private_round();
  void adapt_clip(const std::vector<ClientRecord>& records);

  // --- bounds of norms (federated_norms.cpp) ---
  void bound_update(ClientRecord& record) const;
  NormRound move_bounds(const std::vector<ClientRecord>& records);

  // --- guards (federated_guard.cpp) ---
  // Throw DataError (kNumbers), on every rank in the same round.
  void require_finite_model() const;
  void require_progress(const RoundReport& report);

  // --- checkpoints (federated_checkpoint.cpp) ---
  bool checkpoint_due() const;
  bool is_writing() const;  // this rank, in the background
  void save(SaveUntil until);
  void begin_save(SaveUntil until);
  void advance_save();
  void prune_client_states();
  paramserver::Manifest manifest();
  std::array<std::pair<std::string, std::int64_t*>, 5> counters();
  std::vector<ClientStore*> client_stores();
  std::string fingerprint_of_clients() const;
  void require_same_clients(const paramserver::CheckpointReader& reader) const;
  void restore(const paramserver::CheckpointReader& reader);

  bsp::World& world;
  const Model& model;
  std::shared_ptr<const ClientData> clients;
  FederatedOptions options;
  CohortOptions sampling;  // options.cohort, with a secret seed in a private run
  FederatedObserver* observer;
  paramserver::RingFormat ring;
  paramserver::FederatedServer server;
  LocalTrainer local;
  StepPrograms evaluation;  // of the published model
  std::optional<PrivacyEngine> privacy;
  std::optional<NormBounds> norms;
  std::optional<FederatedClock> clock;
  std::optional<ModelVersions> versions;  // asynchronous runs
  std::vector<TrainedClient> ahead;       // FedAsync
  ClientStart origin;                     // of the client in work
  std::vector<std::int64_t> last_cohort;  // ascending
  ClockTotals time_totals;
  std::optional<ClientStore> store;
  std::optional<ClientStore> errors;  // error feedback of compression
  std::optional<PersonalModels> personal;
  std::vector<paramserver::LayoutEntry> sent;  // what updates consist of
  AlignedBuffer<float> client_state;           // of the client in work
  AlignedBuffer<float> shift;                  // of its steps
  AlignedBuffer<float> control_update;         // for channel 1
  AlignedBuffer<float> compressed;             // update of the client in work, decoded
  AlignedBuffer<float> lost;                   // what its compression left out, with error feedback
  std::vector<float> elements;                 // the same without padding
  CohortLosses losses;
  ClientCost cost;
  std::optional<ClientMetrics> client_metrics;
  std::shared_ptr<const ClientData> held_out;
  std::optional<LocalTrainer> held_out_judge;
  std::shared_ptr<const ClientData> client_tests;  // what clients keep for tests
  std::optional<LocalTrainer> test_judge;
  std::vector<std::vector<std::int64_t>> rows;  // robust rounds: updates of this rank's clients
  std::optional<PrivacyRound> last_privacy;
  std::optional<double> pld_at_end;  // epsilon after the last round: no data decide it
  std::int64_t rounds_done = 0;
  std::uint32_t flags = 0;  // of all ranks, in the last round
  std::optional<Evaluation> test;
  std::int64_t evaluated_at = -1;
  double best_accuracy = -1.0;
  std::int64_t best_round = -1;
  std::int64_t client_rounds = 0;
  std::int64_t client_rounds_before = 0;  // this start
  std::int64_t rejected = 0;
  std::int64_t rounds_without_effect = 0;
  std::int64_t rounds_in_vain = 0;  // in a row, every client rejected
  std::int64_t upload_bytes = 0;
  std::int64_t download_bytes = 0;
  std::filesystem::path last_checkpoint;
  std::int64_t saved_at = -1;  // round of the last checkpoint that was begun
  Hash128 saved_state_hash;
  paramserver::CheckpointWriter writer;
  std::future<void> state_flush;    // of the clients' states that the checkpoint in work needs
  double save_seconds = 0.0;        // of the checkpoint in work: what the rounds waited
  double unrecorded_seconds = 0.0;  // of checkpoints, since the last record
  std::chrono::steady_clock::time_point started;
};

}  // namespace superstep::worker
