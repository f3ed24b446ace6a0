#include "worker/trainer.h"

#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "worker/trainer_state.h"

namespace superstep::worker {

std::string_view name_of(StopReason reason) {
  switch (reason) {
    case StopReason::kFinished:
      return "finished";
    case StopReason::kEarlyStopping:
      return "early_stopping";
    case StopReason::kWallTime:
      return "wall_time";
    case StopReason::kSignal:
      return "signal";
  }
  return "unknown";
}

Trainer::State::State(bsp::World& the_world, const Model& the_model,
                      paramserver::CollocatedServer& the_server, TrainOptions the_options,
                      TrainObserver* the_observer)
    : world(the_world),
      model(the_model),
      server(the_server),
      options(std::move(the_options)),
      observer(the_observer),
      programs(model, server.pull().buffer(),
               {.seed = options.batch.seed, .precision = options.precision}),
      numbers(model.layout(), options.numbers),
      recheck(
          world, model.layout(), server.pull().buffer(),
          {.share = options.recompute_gradients,
           .seed = options.batch.seed,
           .num_slots = options.batch.microbatches},
          [this](bsp::SlotRange unit, std::span<float> gradient,
                 std::span<paramserver::SlotSummary> into) { recompute(unit, gradient, into); }),
      writer(world) {
  position.seed = options.batch.seed;
  make_policy_memory();
}

Trainer::Trainer(bsp::World& world, const Model& model, paramserver::CollocatedServer& server,
                 TrainOptions options, TrainObserver* observer)
    : state_(std::make_unique<State>(world, model, server, std::move(options), observer)) {}

Trainer::~Trainer() = default;

void Trainer::State::start_input() {
  if (options.placement == SlotPlacement::kRandom) {
    place_at_random();
  }
  const BatchPlan batches(data.train->size(), options.batch);
  start_policy(batches);
  prefetcher =
      std::make_unique<Prefetcher>(data.train, options.normalization, batches, slots_of_this_rank(),
                                   position.epoch, position.step_in_epoch, options.prefetch_depth);
  reader.emplace(data.train, options.normalization, batches);
  last_input_wait = 0.0;
  steps_per_epoch = batches.steps_per_epoch();
}

std::optional<StopReason> Trainer::State::stop_reason() const {
  if ((server.flags() & kSignalFlag) != 0) {
    return StopReason::kSignal;
  }
  if ((server.flags() & kWallTimeFlag) != 0) {
    return StopReason::kWallTime;
  }
  return std::nullopt;
}

bool Trainer::State::at_superstep_limit() const {
  return options.max_supersteps > 0 && position.superstep >= options.max_supersteps;
}

void Trainer::State::note_epoch(const Evaluation& judged) {
  if (judged.accuracy > best.accuracy) {
    best.accuracy = judged.accuracy;
    best.epoch = position.epoch;
    best.superstep = position.superstep;
  }
  if (judged.loss < best.loss - options.early_stopping.min_delta) {
    best.loss = judged.loss;
    best.epochs_without_improvement = 0;
  } else {
    ++best.epochs_without_improvement;
  }
}

bool Trainer::State::early_stop() const {
  return options.early_stopping.patience_epochs > 0 &&
         best.epochs_without_improvement >= options.early_stopping.patience_epochs;
}

// Reports and moves on to the next epoch.
void Trainer::State::finish_epoch() {
  const auto samples = static_cast<double>(totals.sums.num_samples);
  EpochReport report;
  report.epoch = position.epoch + 1;
  report.superstep = position.superstep;
  report.train_loss = totals.sums.loss_sum / samples;
  report.train_accuracy = static_cast<double>(totals.sums.num_correct) / samples;
  report.seconds = totals.seconds;
  report.samples_per_second = totals.seconds > 0.0 ? samples / totals.seconds : 0.0;
  if (policy != nullptr) {
    report.virtual_end = policy_totals.end;
  }
  ++position.epoch;
  position.step_in_epoch = 0;
  totals = {};
  const std::int64_t every = options.evaluate_every_epochs;
  if (every > 0 && (position.epoch % every == 0 || position.epoch == options.epochs)) {
    evaluate_epoch(report);
  }
  if (observer != nullptr) {
    observer->on_epoch(report);
  }
}

void Trainer::State::evaluate_epoch(EpochReport& report) {
  const EvaluationOptions how{options.evaluation_batch, options.evaluation_slots,
                              options.normalization};
  world.set_phase("evaluate");
  SUPERSTEP_FAILPOINT("evaluate");
  if (data.validation != nullptr) {
    report.validation = validation = worker::evaluate(world, programs, *data.validation, how);
  }
  if (data.test != nullptr) {
    report.test = test = worker::evaluate(world, programs, *data.test, how);
  }
  world.set_phase("compute");
  evaluated_at = position.superstep;
  if (report.validation.has_value() || report.test.has_value()) {
    note_epoch(report.validation.has_value() ? *report.validation : *report.test);
  }
}

void Trainer::open(const TrainingData& data) {
  State& state = *state_;
  SUPERSTEP_CHECK(data.train != nullptr, "training data");
  state.started = Clock::now();
  state.data = data;
  state.start_input();
}

bool Trainer::has_next() const {
  const State& state = *state_;
  return state.position.epoch < state.options.epochs && !state.at_superstep_limit();
}

const StepBatch& Trainer::next_batch() {
  return state_->next_batch();
}

void Trainer::compute_gradients(const StepBatch& batch) {
  state_->compute_gradients(batch);
}

StepReport Trainer::apply_gradients(const paramserver::ApplyOptions& options) {
  State& state = *state_;
  const StepReport report = state.apply_gradients(options);
  state.tell(report);
  if (state.writer.is_in_work() && (state.server.flags() & kWritingFlag) == 0) {
    state.advance_save();
  }
  if (state.position.step_in_epoch == state.steps_per_epoch) {
    state.finish_epoch();
  }
  return report;
}

TrainResult Trainer::fit(const TrainingData& data) {
  State& state = *state_;
  open(data);
  if (state.position.superstep == 0) {
    state.save(State::SaveUntil::kWritten);  // finds out now whether checkpoints can be written
  }
  state.reserve_copies();
  StopReason reason = StopReason::kFinished;
  while (has_next()) {
    if (state.early_stop()) {
      reason = StopReason::kEarlyStopping;
      break;
    }
    compute_gradients(next_batch());
    apply_gradients();
    const std::optional<StopReason> stop = state.stop_reason();
    if (!stop.has_value() && state.checkpoint_due()) {
      state.save(state.options.checkpoint.asynchronous ? State::SaveUntil::kBegun
                                                       : State::SaveUntil::kWritten);
    }
    if (stop.has_value()) {
      reason = *stop;
      break;
    }
  }
  state.prefetcher.reset();
  state.save(State::SaveUntil::kWritten);
  if (state.position.epoch >= state.options.epochs) {
    reason =
        StopReason::kFinished;  // a stop that came with the last superstep has nothing to resume
  }
  return finish(reason);
}

TrainResult Trainer::finish(StopReason reason) {
  State& state = *state_;
  const TrainingData& data = state.data;
  const bool stopped_early = reason == StopReason::kSignal || reason == StopReason::kWallTime;
  if (!stopped_early && state.evaluated_at != state.position.superstep) {
    if (data.validation != nullptr) {
      state.validation = evaluate(*data.validation);
    }
    if (data.test != nullptr) {
      state.test = evaluate(*data.test);
    }
  }
  const Hash128 hash = state.model.layout().parameters_hash(state.server.pull().buffer());
  state.world.require_same("parameters_hash at the end of training", to_text(hash));
  state.require_as_saved(hash);
  return {.reason = reason,
          .test = state.test,
          .validation = state.validation,
          .parameters_hash = hash,
          .state_hash = state.saved_state_hash,
          .supersteps = state.position.superstep,
          .epochs = state.position.epoch,
          .train_seconds = to_seconds(Clock::now() - state.started),
          .last_checkpoint = state.last_checkpoint,
          .best_epoch = state.best.epoch,
          .policy = state.policy != nullptr ? std::optional(state.policy_totals) : std::nullopt};
}

Evaluation Trainer::evaluate(const Dataset& dataset) {
  State& state = *state_;
  return worker::evaluate(state.world, state.programs, dataset,
                          {state.options.evaluation_batch, state.options.evaluation_slots,
                           state.options.normalization});
}

}  // namespace superstep::worker
