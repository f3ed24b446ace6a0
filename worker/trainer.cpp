#include "worker/trainer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "worker/trainer_state.h"

namespace superstep::worker {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kSignalFlag = 1;
constexpr std::uint32_t kWallTimeFlag = 2;
constexpr std::uint32_t kBadNumbersFlag = 4;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

paramserver::ApplyOptions unless_numbers_are_bad() {
  paramserver::ApplyOptions options;
  options.skip_on = kBadNumbersFlag;
  return options;
}

void add_to(paramserver::SlotSummary& sum, const paramserver::SlotSummary& part) {
  sum.num_samples += part.num_samples;
  sum.num_correct += part.num_correct;
  sum.loss_sum += part.loss_sum;
}

}  // namespace

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
      programs(model, server.pull().buffer(), options.batch.seed),
      numbers(model.layout(), options.numbers) {
  position.seed = options.batch.seed;
}

Trainer::Trainer(bsp::World& world, const Model& model, paramserver::CollocatedServer& server,
                 TrainOptions options, TrainObserver* observer)
    : state_(std::make_unique<State>(world, model, server, std::move(options), observer)) {}

Trainer::~Trainer() = default;

std::vector<int> Trainer::State::slots_of_this_rank() const {
  std::vector<int> slots;
  const std::span<const int> placement = server.placement();
  for (std::size_t slot = 0; slot < placement.size(); ++slot) {
    if (placement[slot] == world.rank()) {
      slots.push_back(static_cast<int>(slot));
    }
  }
  return slots;
}

void Trainer::State::start_input(const TrainingData& data) {
  if (options.placement == SlotPlacement::kRandom) {
    place_at_random();
  }
  const BatchPlan plan(data.train->size(), options.batch);
  prefetcher =
      std::make_unique<Prefetcher>(data.train, options.normalization, plan, slots_of_this_rank(),
                                   position.epoch, position.step_in_epoch, options.prefetch_depth);
  reader.emplace(data.train, options.normalization, plan);
  last_input_wait = 0.0;
}

void Trainer::State::place(std::vector<int> placement) {
  server.set_placement(placement);
  if (prefetcher != nullptr) {
    prefetcher->set_slots(slots_of_this_rank());
  }
}

void Trainer::State::place_at_random() {
  place(random_placement(options.batch.seed, position.superstep, options.batch.microbatches,
                         world.size()));
}

// Between two supersteps.
void Trainer::State::choose_placement(std::size_t num_slots, double compute_seconds) {
  if (options.placement == SlotPlacement::kRandom) {
    place_at_random();
  }
  if (options.placement == SlotPlacement::kMeasured) {
    meter.add(static_cast<std::int64_t>(num_slots), compute_seconds);
    if (meter.is_due()) {
      std::vector<int> better = meter.decide(world, server.placement());
      if (!better.empty()) {
        place(std::move(better));
      }
    }
  }
}

void Trainer::State::raise_stop_flags() {
  if (stop_requested()) {
    server.raise_flags(kSignalFlag);
  }
  if (options.wall_time_limit.count() > 0 && Clock::now() - started >= options.wall_time_limit) {
    server.raise_flags(kWallTimeFlag);
  }
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

// A slot that another rank was to compute was not assembled ahead here: it is read on the spot.
// Returns the number of samples this rank computed.
std::int64_t Trainer::State::compute_slots(const StepBatch& batch) {
  std::int64_t num_samples = 0;
  const auto compute = [&](const SlotBatch& slot) {
    push_slot(slot, batch.epoch);
    num_samples += slot.num_samples();
  };
  if (server.dealing() == paramserver::SlotDealing::kAsPlaced) {
    std::for_each(batch.slots.begin(), batch.slots.end(), compute);
    return num_samples;
  }
  while (const std::optional<int> claimed = server.claim_slot()) {
    const auto own = std::find_if(batch.slots.begin(), batch.slots.end(),
                                  [&](const SlotBatch& slot) { return slot.slot == *claimed; });
    if (own != batch.slots.end()) {
      compute(*own);
      continue;
    }
    stolen.slot = *claimed;
    reader->read(batch.position(), stolen, [] { return KeepReading::kYes; });
    compute(stolen);
  }
  return num_samples;
}

void Trainer::State::push_slot(const SlotBatch& batch, std::int64_t epoch) {
  const std::span<float> gradient = server.reserve(batch.slot);
  const paramserver::SlotSummary summary = programs.train(batch, epoch, gradient);
  SUPERSTEP_FAILPOINT_DATA("gradient", gradient);
  if (const std::optional<std::string> found = numbers.look(batch, summary, gradient)) {
    findings += (findings.empty() ? "" : "; ") + *found;
    server.raise_flags(kBadNumbersFlag);
  }
  int bucket = 0;
  for (const paramserver::ElementRange range : server.buckets()) {
    server.push(batch.slot, bucket++,
                gradient.subspan(static_cast<std::size_t>(range.begin),
                                 static_cast<std::size_t>(range.length())));
  }
  server.push_summary(batch.slot, summary);
}

// After a superstep that some rank could not use: every rank learns why, and decides the same.
void Trainer::State::note_numbers(const StepReport& report) {
  constexpr std::size_t kMostRanksNamed = 4;
  std::string why;
  std::size_t named = 0;
  int rank = 0;
  for (const std::string& text : world.allgather_string(std::exchange(findings, {}))) {
    if (!text.empty() && named < kMostRanksNamed) {
      why += fmt::format("{}rank {}, {}", why.empty() ? "" : "; ", rank, text);
      ++named;
    }
    ++rank;
  }
  why = fmt::format("the loss or a gradient is no number at superstep {} (epoch {}): {}",
                    report.superstep, report.epoch + 1, why);
  numbers.note_bad(report.superstep, why);
  if (observer != nullptr) {
    observer->on_skipped(report, why);
  }
}

void Trainer::State::watch_stragglers(const StepReport& report, std::int64_t num_samples) {
  if (world.size() == 1) {
    return;
  }
  stragglers.note(report.record.compute_seconds + report.record.input_wait_seconds, num_samples);
  if (!stragglers.is_due()) {
    return;
  }
  const std::vector<double> medians = world.allgather(stragglers.my_median());
  for (const Straggler& straggler : stragglers.judge(medians)) {
    if (observer != nullptr) {
      observer->on_straggler(report.superstep, straggler, world.host_of(straggler.rank));
    }
  }
}

// One superstep: input, gradients of this rank's slots, exchange and update, report.
void Trainer::State::train_step(const BatchPlan& plan) {
  SUPERSTEP_FAILPOINT_HERE(world.rank(), position.superstep);
  SUPERSTEP_FAILPOINT("step.begin");
  const Clock::time_point start = Clock::now();
  const bsp::TrafficCounters before = world.traffic();
  const StepBatch& batch = prefetcher->next();
  SUPERSTEP_CHECK(batch.epoch == position.epoch && batch.step_in_epoch == position.step_in_epoch,
                  "input at epoch", batch.epoch, "step", batch.step_in_epoch, "but training at",
                  position.epoch, position.step_in_epoch);
  const double input_wait = prefetcher->input_wait_seconds() - last_input_wait;
  last_input_wait += input_wait;
  const Clock::time_point compute_start = Clock::now();
  const std::int64_t own_samples = compute_slots(batch);
  const double compute = seconds_since(compute_start);
  SUPERSTEP_FAILPOINT("compute.end");
  raise_stop_flags();
  StepReport report;
  report.steps_per_epoch = plan.steps_per_epoch();
  report.result = server.apply_gradients(unless_numbers_are_bad());
  if (!report.result.skipped) {
    add_to(totals.sums, report.result.total);
    numbers.note_good(report.result.total);
  }
  SUPERSTEP_FAILPOINT("update.end");
  ++position.superstep;
  ++position.step_in_epoch;
  choose_placement(batch.slots.size(), compute);
  report.superstep = position.superstep;
  report.epoch = position.epoch;
  report.step_in_epoch = position.step_in_epoch - 1;
  report.record = {.superstep = static_cast<std::uint64_t>(position.superstep),
                   .total_seconds = seconds_since(start),
                   .compute_seconds = compute,
                   .input_wait_seconds = input_wait,
                   .exchange_seconds = server.last_times().exchange_seconds,
                   .sync_wait_seconds = server.last_times().sync_seconds,
                   .bytes_sent = world.traffic().bytes_sent - before.bytes_sent,
                   .bytes_received = world.traffic().bytes_received - before.bytes_received};
  totals.seconds += report.record.total_seconds;
  if (report.result.skipped) {
    note_numbers(report);
  } else if (observer != nullptr) {
    observer->on_step(report);
  }
  watch_stragglers(report, own_samples);
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

// Evaluates, reports and moves on to the next epoch.
void Trainer::State::finish_epoch(const TrainingData& data, std::int64_t last_epoch) {
  const auto samples = static_cast<double>(totals.sums.num_samples);
  EpochReport report;
  report.epoch = position.epoch + 1;
  report.superstep = position.superstep;
  report.train_loss = totals.sums.loss_sum / samples;
  report.train_accuracy = static_cast<double>(totals.sums.num_correct) / samples;
  report.seconds = totals.seconds;
  report.samples_per_second = totals.seconds > 0.0 ? samples / totals.seconds : 0.0;
  ++position.epoch;
  position.step_in_epoch = 0;
  totals = {};
  const bool wanted =
      options.evaluate_every_epochs > 0 &&
      (position.epoch % options.evaluate_every_epochs == 0 || position.epoch == last_epoch);
  if (wanted) {
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
  if (observer != nullptr) {
    observer->on_epoch(report);
  }
}

TrainResult Trainer::fit(const TrainingData& data) {
  State& state = *state_;
  SUPERSTEP_CHECK(data.train != nullptr, "training data");
  state.started = Clock::now();
  const BatchPlan plan(data.train->size(), state.options.batch);
  if (state.position.superstep == 0) {
    state.save();  // finds out now whether checkpoints can be written
  }
  state.start_input(data);
  StopReason reason = StopReason::kFinished;
  while (state.position.epoch < state.options.epochs && !state.at_superstep_limit()) {
    if (state.early_stop()) {
      reason = StopReason::kEarlyStopping;
      break;
    }
    state.train_step(plan);
    if (state.position.step_in_epoch == plan.steps_per_epoch()) {
      state.finish_epoch(data, state.options.epochs);
    }
    const std::optional<StopReason> stop = state.stop_reason();
    if (stop.has_value() || state.checkpoint_due()) {
      state.save();
    }
    if (stop.has_value()) {
      reason = *stop;
      break;
    }
  }
  state.prefetcher.reset();
  state.save();
  if (state.position.epoch >= state.options.epochs) {
    reason =
        StopReason::kFinished;  // a stop that came with the last superstep has nothing to resume
  }
  return finish(data, reason);
}

TrainResult Trainer::finish(const TrainingData& data, StopReason reason) {
  State& state = *state_;
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
  return {.reason = reason,
          .test = state.test,
          .validation = state.validation,
          .parameters_hash = hash,
          .state_hash = state.saved_state_hash,
          .supersteps = state.position.superstep,
          .epochs = state.position.epoch,
          .train_seconds = seconds_since(state.started),
          .last_checkpoint = state.last_checkpoint,
          .best_epoch = state.best.epoch};
}

void Trainer::compute_gradients(const StepBatch& batch) {
  state_->compute_slots(batch);
}

paramserver::StepResult Trainer::apply_gradients(const paramserver::ApplyOptions& options) {
  State& state = *state_;
  const paramserver::StepResult result = state.server.apply_gradients(options);
  ++state.position.superstep;
  return result;
}

Evaluation Trainer::evaluate(const Dataset& dataset) {
  State& state = *state_;
  return worker::evaluate(state.world, state.programs, dataset,
                          {state.options.evaluation_batch, state.options.evaluation_slots,
                           state.options.normalization});
}

}  // namespace superstep::worker
