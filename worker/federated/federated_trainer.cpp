#include "worker/federated/federated_trainer.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

constexpr std::uint32_t kSignalFlag = 1;
constexpr std::uint32_t kWallTimeFlag = 2;
constexpr std::uint32_t kWritingFlag = 4;  // a checkpoint, and this rank is not done with its part
constexpr std::size_t kFields = 14;

std::array<double, kFields> to_array(const ClientRecord& record) {
  return {static_cast<double>(record.client),
          static_cast<double>(record.rejection),
          record.weight,
          record.denominator,
          static_cast<double>(record.samples),
          static_cast<double>(record.correct),
          static_cast<double>(record.steps),
          record.loss_sum,
          record.seconds,
          static_cast<double>(record.bytes),
          record.is_within ? 1.0 : 0.0,
          record.is_usual ? 1.0 : 0.0,
          record.diverged ? 1.0 : 0.0,
          static_cast<double>(record.flags)};
}

ClientRecord from_array(std::span<const double> fields) {
  return {.client = static_cast<std::int64_t>(fields[0]),
          .rejection = static_cast<Rejection>(static_cast<int>(fields[1])),
          .weight = fields[2],
          .denominator = fields[3],
          .samples = static_cast<std::int64_t>(fields[4]),
          .correct = static_cast<std::int64_t>(fields[5]),
          .steps = static_cast<std::int64_t>(fields[6]),
          .loss_sum = fields[7],
          .seconds = fields[8],
          .bytes = static_cast<std::int64_t>(fields[9]),
          .is_within = fields[10] != 0.0,
          .is_usual = fields[11] != 0.0,
          .diverged = fields[12] != 0.0,
          .flags = static_cast<std::uint32_t>(fields[13])};
}

}  // namespace

std::string_view name_of(Rejection rejection) {
  switch (rejection) {
    case Rejection::kNone:
      return "none";
    case Rejection::kNotFinite:
      return "not_finite";
    case Rejection::kOutOfRange:
      return "out_of_range";
  }
  return "unknown";
}

FederatedTrainer::State::State(bsp::World& the_world, const Model& the_model,
                               std::shared_ptr<const ClientData> the_clients,
                               FederatedOptions the_options, FederatedObserver* the_observer)
    : world(the_world),
      model(the_model),
      clients(std::move(the_clients)),
      options(completed(std::move(the_options))),
      sampling(options.cohort),
      observer(the_observer),
      ring(check_federated(options, *clients, model.layout())),
      server(world, model.layout(), server_options(options.algorithm)),
      local(model, clients, options.local),
      evaluation(model, server.pull().buffer(),
                 {.seed = options.local.seed, .precision = options.local.precision}),
      sent(shared_entries(model.layout(), options.personalization)),
      writer(world) {
  const std::int64_t size = model.layout().size();
  if (options.privacy.kind != PrivacyKind::kNone) {
    privacy.emplace(privacy_engine(options, *clients, size, ring));
    privacy->account(options.privacy.executed_rounds);
    draw_secret_sampling();
  }
  if (is_bounded(options.norms)) {
    norms.emplace(options.norms, options.update_bound, size, options.cohort.seed);
  }
  if (has_clock(options)) {
    clock.emplace(options, clients, model.layout());
    clock->set_cohort_seed(sampling.seed);
  }
  if (options.asynchrony.kind != Asynchrony::kNone) {
    versions.emplace(world, model.layout());
  }
  if (has_client_state(options.algorithm.kind)) {
    store.emplace(options.client_store / "states", size, 0);
    client_state = AlignedBuffer<float>(size);
  }
  if (options.personalization.kind != PersonalizationKind::kNone) {
    personal.emplace(model, clients, options.local, options.personalization,
                     options.client_store / "personal");
  }
  if (options.compression.kind != CompressionKind::kNone) {
    compressed = AlignedBuffer<float>(size);
    elements.reserve(static_cast<std::size_t>(size));
    if (options.compression.error_feedback == ErrorFeedback::kOn) {
      errors.emplace(options.client_store / "errors", size, 0);
      lost = AlignedBuffer<float>(size);
    }
  }
  if (has_client_state(options.algorithm.kind) || server.num_channels() > 1) {
    shift = AlignedBuffer<float>(size);
    control_update = AlignedBuffer<float>(size);
  }
  watch_samples();
}

FederatedTrainer::FederatedTrainer(bsp::World& world, const Model& model,
                                   std::shared_ptr<const ClientData> clients,
                                   FederatedOptions options, FederatedObserver* observer)
    : state_(std::make_unique<State>(world, model, std::move(clients), std::move(options),
                                     observer)) {}

FederatedTrainer::~FederatedTrainer() = default;

void FederatedTrainer::load_parameters(std::span<const float> buffer) {
  state_->server.load_parameters(buffer);
}

std::span<const float> FederatedTrainer::parameters() const {
  return state_->server.pull().buffer();
}

paramserver::RingFormat FederatedTrainer::ring() const {
  return state_->ring;
}

paramserver::MemoryUse FederatedTrainer::memory_use() const {
  paramserver::MemoryUse memory = state_->server.memory_use();
  if (state_->versions) {
    memory.parameters_per_node += state_->versions->bytes_per_node();
  }
  return memory;
}

std::uint32_t FederatedTrainer::State::stop_flags() const {
  std::uint32_t raised = stop_requested() ? kSignalFlag : 0;
  if (options.wall_time_limit.count() > 0 && Clock::now() - started >= options.wall_time_limit) {
    raised |= kWallTimeFlag;
  }
  return is_writing() ? raised | kWritingFlag : raised;
}

std::optional<StopReason> FederatedTrainer::State::stop_reason() const {
  if ((flags & kSignalFlag) != 0) {
    return StopReason::kSignal;
  }
  return (flags & kWallTimeFlag) != 0 ? std::optional(StopReason::kWallTime) : std::nullopt;
}

// The records of all clients in the order of the cohort; one more record per rank carries its
// flags.
std::vector<ClientRecord> FederatedTrainer::State::share(const RoundPlan& plan,
                                                         const std::vector<ClientRecord>& mine) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(world.size()), kFields);
  for (const int rank : plan.placement) {
    counts[static_cast<std::size_t>(rank)] += kFields;
  }
  std::vector<double> mine_flat;
  ClientRecord header;
  header.flags = stop_flags();
  const auto append = [&](const ClientRecord& record) {
    const std::array<double, kFields> fields = to_array(record);
    mine_flat.insert(mine_flat.end(), fields.begin(), fields.end());
  };
  append(header);
  std::for_each(mine.begin(), mine.end(), append);
  std::vector<double> all((plan.cohort.size() + static_cast<std::size_t>(world.size())) * kFields);
  world.allgather(std::span<const double>(mine_flat), std::span<double>(all), counts);
  // Every rank lists its clients in the order of the plan, behind its header.
  std::vector<std::size_t> next;
  std::size_t offset = 0;
  flags = 0;
  for (const std::int64_t count : counts) {
    flags |= from_array(std::span<const double>(all).subspan(offset, kFields)).flags;
    next.push_back(offset + kFields);
    offset += static_cast<std::size_t>(count);
  }
  std::vector<ClientRecord> records;
  records.reserve(plan.cohort.size());
  for (const int rank : plan.placement) {
    std::size_t& at = next[static_cast<std::size_t>(rank)];
    records.push_back(from_array(std::span<const double>(all).subspan(at, kFields)));
    at += kFields;
  }
  return records;
}

paramserver::RoundScale FederatedTrainer::State::scale_of(
    const RoundPlan& plan, const std::vector<ClientRecord>& records) const {
  if (privacy) {
    return {.scale = paramserver::unit(ring) / privacy->divisor(), .control_scale = 0.0};
  }
  double denominator = 0.0;
  double weighted_steps = 0.0;
  for (const ClientRecord& record : records) {
    if (record.rejection == Rejection::kNone) {
      denominator += record.denominator;
      weighted_steps += record.denominator * static_cast<double>(record.steps);
    }
  }
  if (!(denominator > 0.0)) {
    return {};
  }
  double one = paramserver::unit(ring);
  if (options.algorithm.kind == Algorithm::kFedNova) {
    // Weights were made with the mean steps of the whole cohort; a rejected client's do not count.
    // The factor is exactly 1 when nobody is rejected.
    one *= weighted_steps / denominator / plan.mean_steps;
  }
  const auto population = static_cast<double>(clients->num_clients());
  const bool mime = options.algorithm.kind == Algorithm::kMimeLite;
  return {.scale = one / denominator, .control_scale = one / (mime ? denominator : population)};
}

// Sums are in the order of the cohort, so they have the same bits on every rank and for every
// placement.
void FederatedTrainer::State::learn_from(const std::vector<ClientRecord>& records,
                                         RoundReport& report) {
  double loss_sum = 0.0;
  std::int64_t correct = 0;
  for (const ClientRecord& record : records) {
    cost.add(static_cast<double>(clients->num_samples(record.client)), record.seconds);
    report.client_seconds += record.seconds;
    if (record.rejection != Rejection::kNone) {
      report.rejected.push_back({record.client, record.rejection});
      continue;
    }
    report.samples += record.samples;
    report.steps += record.steps;
    report.upload_bytes += record.bytes;
    loss_sum += record.loss_sum;
    correct += record.correct;
    if (store) {
      store->note(record.client, rounds_done + 1);
    }
    if (errors) {
      errors->note(record.client, rounds_done + 1);
    }
    if (personal) {
      personal->note(record.client, rounds_done + 1);
    }
    if (record.diverged) {
      report.diverged.push_back(record.client);
    }
  }
  const auto samples = static_cast<double>(report.samples);
  report.train_loss = loss_sum / samples;
  report.train_accuracy = static_cast<double>(correct) / samples;
  client_rounds += static_cast<std::int64_t>(records.size());
  rejected += static_cast<std::int64_t>(report.rejected.size());
  rounds_without_effect += report.has_effect ? 0 : 1;
  const std::int64_t model_bytes = elements_on_the_wire(sent) * std::int64_t{sizeof(float)};
  const std::int64_t receivers =
      report.timing ? report.timing->selected : static_cast<std::int64_t>(records.size());
  report.download_bytes = receivers * (model_bytes + control_bytes());
  upload_bytes += report.upload_bytes;
  download_bytes += report.download_bytes;
}

RoundReport FederatedTrainer::State::round() {
  const Clock::time_point start = Clock::now();
  const bsp::TrafficCounters before = world.traffic();
  const RoundPlan plan = plan_round();
  if (options.algorithm.kind == Algorithm::kQFedAvg) {
    losses = measure_losses(plan);
  }
  std::vector<ClientRecord> mine;
  for (std::size_t i = 0; i < plan.cohort.size(); ++i) {
    if (plan.placement[i] == world.rank()) {
      mine.push_back(train_client(plan, i));
    }
  }
  const double compute = to_seconds(Clock::now() - start);
  world.set_phase("share records");
  std::vector<ClientRecord> records = share(plan, mine);
  keep_versions();
  paramserver::FederatedServer::Noise noise;
  if (privacy) {
    open_private_round();
    noise = [this](std::int64_t begin, std::span<std::int64_t> sums) {
      privacy->add_noise(rounds_done, begin, sums);
    };
  }
  RoundReport report;
  if (options.robust.kind == RobustKind::kNone) {
    const paramserver::RoundScale scale = scale_of(plan, records);
    report.has_effect = scale.scale != 0.0;
    server.apply_round(scale, noise);
  } else {
    report.has_effect = apply_robust(plan, records);
  }
  require_finite_model();
  if (privacy) {
    adapt_clip(records);
    report.privacy = last_privacy;
  }
  if (norms) {
    report.norms = move_bounds(records);
  }
  report.cohort = static_cast<std::int64_t>(records.size());
  report.client_learning_rate = local.rate_of(rounds_done);
  note_time(plan, report);
  learn_from(records, report);
  note_round(mine);
  report.round = ++rounds_done;
  report.seconds = to_seconds(Clock::now() - start);
  report.record = {.superstep = static_cast<std::uint64_t>(rounds_done),
                   .total_seconds = report.seconds,
                   .compute_seconds = compute,
                   .exchange_seconds = server.last_times().exchange_seconds,
                   .sync_wait_seconds = server.last_times().sync_seconds,
                   .checkpoint_seconds = std::exchange(unrecorded_seconds, 0.0),
                   .bytes_sent = world.traffic().bytes_sent - before.bytes_sent,
                   .bytes_received = world.traffic().bytes_received - before.bytes_received};
  return report;
}

void FederatedTrainer::State::evaluate_model(const Dataset& data) {
  world.set_phase("evaluate");
  test = worker::evaluate(
      world, evaluation, data,
      {options.evaluation_batch, options.evaluation_slots, options.local.normalization});
  world.set_phase("compute");
  evaluated_at = rounds_done;
  if (test->accuracy > best_accuracy) {
    best_accuracy = test->accuracy;
    best_round = rounds_done;
  }
}

RoundReport FederatedTrainer::run_round() {
  return state_->round();
}

FederatedResult FederatedTrainer::fit(const std::shared_ptr<const Dataset>& test,
                                      const std::shared_ptr<const ClientData>& held_out,
                                      const std::shared_ptr<const ClientData>& client_tests) {
  State& state = *state_;
  state.judge_held_out(held_out);
  state.judge_tests(client_tests);
  state.started = Clock::now();
  if (state.rounds_done == 0) {
    state.save(SaveUntil::kWritten);  // finds out now whether checkpoints can be written
  }
  if (state.privacy) {
    state.pld_at_end = state.agreed_pld(state.options.rounds - state.rounds_done);
  }
  StopReason reason = StopReason::kFinished;
  while (state.rounds_done < state.options.rounds && reason == StopReason::kFinished) {
    RoundReport report = state.round();
    const bool last = report.round == state.options.rounds;
    if (test != nullptr && (last || report.round % state.options.evaluate_every_rounds == 0)) {
      state.evaluate_model(*test);
      report.test = state.test;
    }
    const std::int64_t every = state.options.evaluate_clients_every_rounds;
    if (every > 0 && (last || report.round % every == 0)) {
      state.evaluate_clients();
      report.clients = state.client_metrics;
    }
    state.tell_audit();
    if (state.observer != nullptr) {
      state.observer->on_round(report);
    }
    state.require_progress(report);
    if (state.writer.is_in_work() && (state.flags & kWritingFlag) == 0) {
      state.advance_save();
    }
    const std::optional<StopReason> stop = state.stop_reason();
    if (stop.has_value()) {
      state.save(SaveUntil::kWritten);
    } else if (state.checkpoint_due()) {
      state.save(state.options.checkpoint.asynchronous ? SaveUntil::kBegun : SaveUntil::kWritten);
    }
    if (stop.has_value() && !last) {
      reason = *stop;
    }
  }
  state.save(SaveUntil::kWritten);
  if (reason == StopReason::kFinished && test != nullptr &&
      state.evaluated_at != state.rounds_done) {
    state.evaluate_model(*test);
  }
  if (state.privacy && !state.last_privacy) {  // nothing was left to do
    state.last_privacy = state.privacy->spent(state.privacy->clip());
    state.last_privacy->pld = state.pld_at_end;
  }
  const Hash128 hash = state.model.layout().parameters_hash(state.server.pull().buffer());
  state.world.require_same("parameters_hash at the end of training", to_text(hash));
  state.tell_audit();
  return {.reason = reason,
          .test = state.test,
          .parameters_hash = hash,
          .state_hash = state.saved_state_hash,
          .rounds = state.rounds_done,
          .client_rounds = state.client_rounds,
          .client_rounds_of_start = state.client_rounds - state.client_rounds_before,
          .rejected = state.rejected,
          .rounds_without_effect = state.rounds_without_effect,
          .upload_bytes = state.upload_bytes,
          .download_bytes = state.download_bytes,
          .privacy = state.last_privacy,
          .time = state.time_so_far(),
          .clients = state.client_metrics,
          .best_accuracy = state.best_accuracy,
          .best_round = state.best_round,
          .train_seconds = to_seconds(Clock::now() - state.started),
          .last_checkpoint = state.last_checkpoint};
}

}  // namespace superstep::worker
