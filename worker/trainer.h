// The training loop of one rank: supersteps over slots, evaluation, checkpoints, early stopping,
// resume.
//
//   Trainer trainer(world, model, server, options);
//   if (resume) trainer.restore(reader);
//   TrainResult result = trainer.fit({train, validation, test});
//
// A program that wants to put something between the parts of a superstep writes the loop itself;
// with nothing put in, it ends with the bits of fit():
//
//   trainer.open(data);
//   while (trainer.has_next()) {
//     trainer.compute_gradients(trainer.next_batch());
//     trainer.apply_gradients({.mask = mask});
//   }
//
// Everything a Trainer decides (stop, checkpoint, best epoch) is a function of values that
// are the same on every rank.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "bsp/superstep_record.h"
#include "bsp/world.h"
#include "kernels/precision.h"
#include "paramserver/checkpoint.h"
#include "paramserver/collocated_server.h"
#include "worker/data/batches.h"
#include "worker/data/dataset.h"
#include "worker/evaluator.h"
#include "worker/model.h"
#include "worker/number_check.h"
#include "worker/policy/local_replicas.h"
#include "worker/policy/sync_policy.h"
#include "worker/slot_placement.h"
#include "worker/stop_request.h"
#include "worker/straggler_watch.h"

namespace superstep::worker {

struct CheckpointOptions {
  std::filesystem::path directory;      // empty: no checkpoints
  std::int64_t every_supersteps = 200;  // 0: only at the end of each epoch
  int keep = 3;                         // newest ones kept
  bool keep_best = true;                // and the one with the best validation (or test) accuracy
  // Between supersteps only the state is copied; the rest is written while training goes on.
  bool asynchronous = false;
  // A second copy of every checkpoint lies below it, of each rank's part on another node
  // (paramserver/partner_copy.h); needs a run_id. Empty: none.
  std::filesystem::path partner_directory = {};
  std::string run_id = {};
  std::string configuration = {};  // resolved TOML, stored in the manifest
};

struct EarlyStopping {
  std::int64_t patience_epochs = 0;  // 0: off. Epochs without improvement of the validation loss
  double min_delta = 0.0;
};

// How a rank computes several slots of its own: the bits are the same.
enum class SlotPasses : std::uint8_t {
  kTogether,  // whole subtrees in one pass where they can be (kernels/slot_join.h)
  kOneByOne,  // one after the other: the reference
};

struct TrainOptions {
  std::int64_t epochs = 1;
  std::int64_t max_supersteps = 0;  // 0: no limit besides epochs
  BatchOptions batch;
  Normalization normalization;
  std::int64_t evaluation_batch = 1000;  // samples per evaluation step, cut into evaluation_slots
  int evaluation_slots = 8;
  std::int64_t evaluate_every_epochs = 1;
  EarlyStopping early_stopping;
  CheckpointOptions checkpoint;
  NumberOptions numbers;
  // Share of the supersteps whose gradients are computed again by another rank
  // (worker/gradient_recheck.h), 0 to 1. All ranks must have the same.
  double recompute_gradients = 0.0;
  std::chrono::seconds wall_time_limit{0};  // 0: none
  int prefetch_depth = 2;
  SlotPlacement placement = SlotPlacement::kContiguous;
  SlotPasses slot_passes = SlotPasses::kTogether;
  // Which gradients an update sees. Local policy: the server's optimizer is the outer one, with a
  // slot per worker, and `inner` the rule of the workers.
  PolicyOptions policy;
  InnerOptions inner;
  // Of products and convolutions, in training and evaluation; parameters, gradients, the exchange
  // and the update are float32. All ranks must have the same.
  kernels::Precision precision = kernels::Precision::kFloat32;
};

enum class StopReason : std::uint8_t { kFinished, kEarlyStopping, kWallTime, kSignal };
std::string_view name_of(StopReason reason);

struct StepReport {
  std::int64_t superstep = 0;  // supersteps done, this one included
  std::int64_t epoch = 0;      // from 0
  std::int64_t step_in_epoch = 0;
  std::int64_t steps_per_epoch = 0;
  paramserver::StepResult result;
  bsp::SuperstepRecord record;     // of this rank
  const StepPlan* plan = nullptr;  // of a simulated policy; valid during the call
};

struct EpochReport {
  std::int64_t epoch = 0;  // finished epochs
  std::int64_t superstep = 0;
  double train_loss = 0.0;
  double train_accuracy = 0.0;
  double seconds = 0.0;
  double samples_per_second = 0.0;
  std::optional<Evaluation> validation;
  std::optional<Evaluation> test;
  std::optional<VirtualTime> virtual_end = {};  // of a simulated policy, since the run began
};

// What happens is told to an observer, on every rank; each rank decides what it prints.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_step(const StepReport&) {}
  // Instead of on_step: the superstep was left out, for what is said in `why`.
  virtual void on_skipped(const StepReport&, const std::string& /*why*/) {}
  // On every rank; `host` is the straggler's.
  virtual void on_straggler(std::int64_t /*superstep*/, const Straggler&,
                            const std::string& /*host*/) {}
  virtual void on_epoch(const EpochReport&) {}
  virtual void on_checkpoint(const std::filesystem::path&, std::int64_t /*superstep*/,
                             double /*seconds*/) {}
};

struct TrainResult {
  StopReason reason = StopReason::kFinished;
  std::optional<Evaluation> test;
  std::optional<Evaluation> validation;
  Hash128 parameters_hash;
  Hash128 state_hash;
  std::int64_t supersteps = 0;
  std::int64_t epochs = 0;
  double train_seconds = 0.0;             // fit() as a whole
  std::filesystem::path last_checkpoint;  // empty: none
  std::int64_t best_epoch = -1;
  std::optional<PolicyTotals> policy = {};  // of a simulated one, since the run began
};

struct TrainingData {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> validation;  // may be null
  std::shared_ptr<const Dataset> test;        // may be null
};

class Trainer {
 public:
  // All referenced objects must outlive the Trainer. observer may be null.
  Trainer(bsp::World& world, const Model& model, paramserver::CollocatedServer& server,
          TrainOptions options, TrainObserver* observer = nullptr);
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  ~Trainer();

  // Collective. Continues from a checkpoint: parameters, optimizer state, position, best so far.
  void restore(const paramserver::CheckpointReader& reader);
  TrainResult fit(const TrainingData& data);

  // fit() in parts, without its checkpoints, early stopping and stop requests. All are to be called
  // by every rank in the same order.
  //
  // Starts reading the data at the position of the Trainer.
  void open(const TrainingData& data);
  // No: all epochs or options.max_supersteps are done.
  bool has_next() const;
  // This rank's samples of the next superstep; valid until the second next_batch() after it.
  const StepBatch& next_batch();
  // The first half of a superstep: pushes the gradient of every slot of `batch`. Makes no
  // collective call. A checkpoint saved after it does not contain the step.
  void compute_gradients(const StepBatch& batch);
  // The second half. Collective: in supersteps drawn for it the gradients are computed again by
  // other ranks; exchange, mean, update; the step is left out everywhere when a
  // rank found a loss or gradient that is no number. After the last step of an epoch it evaluates
  // (see options.evaluate_every_epochs) and goes on to the next.
  StepReport apply_gradients(const paramserver::ApplyOptions& options = {});

  // Collective. Fixed batches and slots of its own, so the result has the same bits for every
  // world.
  Evaluation evaluate(const Dataset& dataset);
  // Collective. Returns the directory.
  std::filesystem::path save_checkpoint();

 private:
  struct State;  // worker/trainer_state.h
  TrainResult finish(StopReason reason);

  std::unique_ptr<State> state_;
};

}  // namespace superstep::worker
