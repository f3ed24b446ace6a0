// The memory of a Trainer, shared by its source files (loop, superstep and checkpoints). Not part
// of the API.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "paramserver/checkpoint_writer.h"
#include "worker/data/slot_reader.h"
#include "worker/federated/model_versions.h"
#include "worker/gradient_recheck.h"
#include "worker/policy/downpour_replicas.h"
#include "worker/policy/loaded_programs.h"
#include "worker/policy/local_replicas.h"
#include "worker/policy/sync_policy.h"
#include "worker/slot_placement.h"
#include "worker/step_programs.h"
#include "worker/straggler_watch.h"
#include "worker/trainer.h"

namespace superstep::worker {

// What a rank raises with its next update, for all to see.
inline constexpr std::uint32_t kSignalFlag = 1;
inline constexpr std::uint32_t kWallTimeFlag = 2;
inline constexpr std::uint32_t kBadNumbersFlag = 4;
inline constexpr std::uint32_t kWritingFlag =
    8;  // a checkpoint, and this rank is not done with its part

// Sums over the steps of the epoch in work; they survive a resume in the middle of it.
struct EpochTotals {
  paramserver::SlotSummary sums;
  double seconds = 0.0;
};

// The best epoch so far, by accuracy on the validation data (on the test data where there are
// none).
struct BestEpoch {
  std::int64_t epoch = -1;
  std::int64_t superstep = -1;
  double accuracy = -1.0;
  double loss = std::numeric_limits<double>::infinity();
  std::int64_t epochs_without_improvement = 0;
};

// Of the superstep in work.
struct StepInWork {
  Stopwatch watch;
  bsp::TrafficCounters traffic_before;
  double input_wait_seconds = 0.0;
  double compute_seconds = 0.0;
  double check_seconds = 0.0;
  std::int64_t num_samples = 0;  // computed by this rank
  std::size_t num_slots = 0;
};

struct Trainer::State {
  State(bsp::World& the_world, const Model& the_model, paramserver::CollocatedServer& the_server,
        TrainOptions the_options, TrainObserver* the_observer);

  // --- the loop (trainer.cpp) ---
  void start_input();
  std::optional<StopReason> stop_reason() const;
  bool at_superstep_limit() const;
  void finish_epoch();
  void evaluate_epoch(EpochReport& report);
  void note_epoch(const Evaluation& judged);
  bool early_stop() const;

  // --- a superstep (trainer_step.cpp) ---
  const StepBatch& next_batch();
  void compute_gradients(const StepBatch& batch);
  void raise_stop_flags();
  StepReport apply_gradients(paramserver::ApplyOptions apply);
  bsp::SuperstepRecord record_of_step() const;
  void tell(const StepReport& report);
  void note_numbers(const StepReport& report);
  void watch_stragglers(const StepReport& report, std::int64_t num_samples);
  std::vector<int> slots_of_this_rank() const;
  void place(std::vector<int> placement);
  void place_at_random();
  void choose_placement(std::size_t num_slots, double compute_seconds);

  // --- the policy of a simulated cluster (trainer_policy.cpp) ---
  void make_policy_memory();
  void start_policy(const BatchPlan& batches);
  void plan_superstep();
  const Share* share_of(int slot) const;
  bool counts(int slot) const;
  bool have_one_share(std::span<const SlotBatch> batches) const;
  std::span<const float> parameters_of(const Share& share);
  StepPrograms& programs_for(int slot);
  std::int64_t compute_local(const StepBatch& batch);
  void push_local(int worker, std::int64_t global_samples);
  paramserver::StepResult exchange(const paramserver::ApplyOptions& apply);
  void restore_policy(const paramserver::CheckpointReader& from);

  // --- gradients of this rank's slots (trainer_slots.cpp) ---
  std::int64_t compute_slots(const StepBatch& batch);
  std::int64_t compute_own_slots(const StepBatch& batch);
  std::int64_t compute_claimed_slots(const StepBatch& batch);
  void push_slot(const SlotBatch& batch, std::int64_t epoch);
  bool push_together(std::span<const SlotBatch> batches, std::int64_t epoch);
  void push_buckets(int slot, std::span<const float> gradient);
  void recompute(bsp::SlotRange unit, std::span<float> gradient,
                 std::span<paramserver::SlotSummary> into);
  void note_finding(const std::optional<std::string>& found);
  void look_at_slots(std::span<const SlotBatch> batches, std::int64_t epoch,
                     std::span<float> gradient_sum);

  // --- checkpoints (trainer_checkpoint.cpp) ---
  bool checkpoint_due() const;
  enum class SaveUntil : std::uint8_t { kBegun, kWritten };
  void save(SaveUntil until);
  std::vector<paramserver::ArrayPart> parts(paramserver::CollocatedServer::Verified verified =
                                                paramserver::CollocatedServer::Verified::kNow);
  void reserve_copies();
  paramserver::PublishedParameters published();
  void begin_save(SaveUntil until);
  void require_as_saved(const Hash128& hash) const;
  void advance_save();
  paramserver::Manifest manifest() const;
  std::vector<std::filesystem::path> best_directory() const;

  bsp::World& world;
  const Model& model;
  paramserver::CollocatedServer& server;
  TrainOptions options;
  TrainObserver* observer;
  StepPrograms programs;
  NumberCheck numbers;
  GradientRecheck recheck;
  StragglerWatch stragglers;
  std::unique_ptr<SyncPolicy> policy;  // null: strict supersteps, no simulated workers
  StepPlan plan;                       // of the superstep in work
  PolicyTotals policy_totals;
  std::vector<int> share_of_slot;
  std::optional<ModelVersions> versions;         // older parameters that workers read
  std::unique_ptr<DownpourReplicas> own_models;  // async with n_push or n_fetch above 1
  std::unique_ptr<LoadedPrograms> older;         // reads one of these
  Share loaded{.worker = -1, .version = -1};     // what `older` reads
  std::unique_ptr<LocalReplicas> replicas;       // local policy
  std::string findings;                          // of this rank in the superstep in work
  TrainingData data;
  std::int64_t steps_per_epoch = 0;
  StepInWork in_work;
  std::unique_ptr<Prefetcher> prefetcher;
  std::optional<SlotReader> reader;  // of slots taken over from other ranks
  SlotBatch stolen;
  std::vector<SlotBatch> rechecked;
  PlacementMeter meter;
  std::vector<paramserver::SlotSummary> summaries;  // of slots in one pass
  paramserver::Position position;
  EpochTotals totals;
  BestEpoch best;
  std::optional<Evaluation> validation;
  std::optional<Evaluation> test;
  std::int64_t evaluated_at = -1;  // superstep of `validation` and `test`
  std::filesystem::path last_checkpoint;
  std::int64_t saved_at = -1;  // superstep of the last checkpoint that was begun
  paramserver::CheckpointWriter writer;
  double save_seconds = 0.0;        // of the checkpoint in work: what training waited
  double unrecorded_seconds = 0.0;  // of checkpoints, since the last record
  Hash128 saved_state_hash;
  struct {
    std::int64_t superstep = -1;
    Hash128 hash;
  } saved_parameters;  // of the last checkpoint written or restored
  std::chrono::steady_clock::time_point started;
  double last_input_wait = 0.0;
};

}  // namespace superstep::worker
