#include "worker/trainer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "worker/trainer_state.h"

namespace superstep::worker {

namespace {

constexpr std::uint32_t kSignalFlag = 1;
constexpr std::uint32_t kWallTimeFlag = 2;
constexpr std::uint32_t kBadNumbersFlag = 4;
constexpr std::uint32_t kWritingFlag = 8;  // a checkpoint, and this rank is not done with its part

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
      numbers(model.layout(), options.numbers),
      writer(world) {
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

void Trainer::State::start_input() {
  if (options.placement == SlotPlacement::kRandom) {
    place_at_random();
  }
  const BatchPlan plan(data.train->size(), options.batch);
  prefetcher =
      std::make_unique<Prefetcher>(data.train, options.normalization, plan, slots_of_this_rank(),
                                   position.epoch, position.step_in_epoch, options.prefetch_depth);
  reader.emplace(data.train, options.normalization, plan);
  last_input_wait = 0.0;
  steps_per_epoch = plan.steps_per_epoch();
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

// The first part of a superstep: input.
const StepBatch& Trainer::State::next_batch() {
  SUPERSTEP_CHECK(prefetcher != nullptr, "a step before open()");
  SUPERSTEP_FAILPOINT_HERE(world.rank(), position.superstep);
  SUPERSTEP_FAILPOINT("step.begin");
  in_work = {};
  in_work.traffic_before = world.traffic();
  const StepBatch& batch = prefetcher->next();
  SUPERSTEP_CHECK(batch.epoch == position.epoch && batch.step_in_epoch == position.step_in_epoch,
                  "input at epoch", batch.epoch, "step", batch.step_in_epoch, "but training at",
                  position.epoch, position.step_in_epoch);
  in_work.input_wait_seconds = prefetcher->input_wait_seconds() - last_input_wait;
  last_input_wait += in_work.input_wait_seconds;
  return batch;
}

// The second: gradients of this rank's slots.
void Trainer::State::compute_gradients(const StepBatch& batch) {
  const Stopwatch watch;
  in_work.num_samples = compute_slots(batch);
  in_work.num_slots = batch.slots.size();
  in_work.compute_seconds += watch.seconds();
  SUPERSTEP_FAILPOINT("compute.end");
}

// The last: exchange and update, and a step further.
StepReport Trainer::State::apply_gradients(paramserver::ApplyOptions apply) {
  SUPERSTEP_CHECK(steps_per_epoch > 0, "a step before open()");
  apply.skip_on |= kBadNumbersFlag;
  raise_stop_flags();
  if (writer.is_busy()) {
    server.raise_flags(kWritingFlag);
  }
  StepReport report{.superstep = position.superstep + 1,
                    .epoch = position.epoch,
                    .step_in_epoch = position.step_in_epoch,
                    .steps_per_epoch = steps_per_epoch,
                    .result = server.apply_gradients(apply),
                    .record = {}};
  if (!report.result.skipped) {
    add_to(totals.sums, report.result.total);
    numbers.note_good(report.result.total);
  }
  SUPERSTEP_FAILPOINT("update.end");
  ++position.superstep;
  ++position.step_in_epoch;
  choose_placement(in_work.num_slots, in_work.compute_seconds);
  report.record = record_of_step();
  unrecorded_seconds = 0.0;
  totals.seconds += report.record.total_seconds;
  return report;
}

bsp::SuperstepRecord Trainer::State::record_of_step() const {
  const bsp::TrafficCounters traffic = world.traffic();
  return {.superstep = static_cast<std::uint64_t>(position.superstep),
          .total_seconds = in_work.watch.seconds(),
          .compute_seconds = in_work.compute_seconds,
          .input_wait_seconds = in_work.input_wait_seconds,
          .exchange_seconds = server.last_times().exchange_seconds,
          .sync_wait_seconds = server.last_times().sync_seconds,
          .checkpoint_seconds = unrecorded_seconds,
          .bytes_sent = traffic.bytes_sent - in_work.traffic_before.bytes_sent,
          .bytes_received = traffic.bytes_received - in_work.traffic_before.bytes_received};
}

void Trainer::State::tell(const StepReport& report) {
  if (report.result.skipped) {
    note_numbers(report);
  } else if (observer != nullptr) {
    observer->on_step(report);
  }
  watch_stragglers(report, in_work.num_samples);
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
  if (state.position.superstep == 0) {
    state.save(State::SaveUntil::kWritten);  // finds out now whether checkpoints can be written
  }
  open(data);
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
  return {.reason = reason,
          .test = state.test,
          .validation = state.validation,
          .parameters_hash = hash,
          .state_hash = state.saved_state_hash,
          .supersteps = state.position.superstep,
          .epochs = state.position.epoch,
          .train_seconds = to_seconds(Clock::now() - state.started),
          .last_checkpoint = state.last_checkpoint,
          .best_epoch = state.best.epoch};
}

Evaluation Trainer::evaluate(const Dataset& dataset) {
  State& state = *state_;
  return worker::evaluate(state.world, state.programs, dataset,
                          {state.options.evaluation_batch, state.options.evaluation_slots,
                           state.options.normalization});
}

}  // namespace superstep::worker
