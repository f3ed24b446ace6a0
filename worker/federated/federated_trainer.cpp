#include "worker/federated/federated_trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
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
constexpr std::size_t kFields = 12;

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
          .flags = static_cast<std::uint32_t>(fields[11])};
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
      observer(the_observer),
      ring(check_federated(options, *clients)),
      server(world, model.layout(), server_options(options.algorithm)),
      local(model, clients, options.local),
      evaluation(model, server.pull().buffer(),
                 {.seed = options.local.seed, .precision = options.local.precision}) {
  const std::int64_t size = model.layout().size();
  if (options.privacy.kind != PrivacyKind::kNone) {
    privacy.emplace(options.privacy, options.cohort.size, clients->num_clients(),
                    model.layout().size(), ring, options.cohort.seed);
  }
  if (has_clock(options)) {
    clock.emplace(options, clients, model.layout());
  }
  if (options.asynchrony.kind != Asynchrony::kNone) {
    versions.emplace(world, model.layout());
  }
  if (has_client_state(options.algorithm.kind)) {
    store.emplace(options.client_store / "states", size, 0);
    client_state = AlignedBuffer<float>(size);
  }
  if (options.compression.kind != CompressionKind::kNone) {
    compressed = AlignedBuffer<float>(size);
    elements.reserve(static_cast<std::size_t>(size));
    if (options.compression.error_feedback == ErrorFeedback::kOn) {
      errors.emplace(options.client_store / "errors", size, 0);
    }
  }
  if (has_client_state(options.algorithm.kind) || server.num_channels() > 1) {
    shift = AlignedBuffer<float>(size);
    control_update = AlignedBuffer<float>(size);
  }
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
  return raised;
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
    const std::vector<ClientRecord>& records) const {
  if (privacy) {
    return {.scale = paramserver::unit(ring) / privacy->divisor(), .control_scale = 0.0};
  }
  double denominator = 0.0;
  for (const ClientRecord& record : records) {
    if (record.rejection == Rejection::kNone) {
      denominator += record.denominator;
    }
  }
  if (!(denominator > 0.0)) {
    return {};
  }
  const double one = paramserver::unit(ring);
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
  }
  const auto samples = static_cast<double>(report.samples);
  report.train_loss = loss_sum / samples;
  report.train_accuracy = static_cast<double>(correct) / samples;
  client_rounds += static_cast<std::int64_t>(records.size());
  rejected += static_cast<std::int64_t>(report.rejected.size());
  upload_bytes += report.upload_bytes;
}

// One more round on the account, and the next bound of norms.
PrivacyRound FederatedTrainer::State::settle_privacy(const std::vector<ClientRecord>& records) {
  const double clip = privacy->clip();
  if (options.privacy.clipping == Clipping::kAdaptive) {
    double centered = 0.0;
    for (const ClientRecord& record : records) {
      if (record.rejection == Rejection::kNone) {
        centered += record.is_within ? 0.5 : -0.5;
      }
    }
    std::int64_t count_noise = world.rank() == 0 ? privacy->count_noise(rounds_done) : 0;
    world.broadcast(std::span<std::int64_t>(&count_noise, 1), 0);
    privacy->adapt(centered + static_cast<double>(count_noise));
  }
  privacy->account();
  last_privacy = privacy->spent(clip);
  return *last_privacy;
}

RoundReport FederatedTrainer::State::round() {
  const Clock::time_point start = Clock::now();
  const bsp::TrafficCounters before = world.traffic();
  const RoundPlan plan = plan_round();
  std::vector<ClientRecord> mine;
  for (std::size_t i = 0; i < plan.cohort.size(); ++i) {
    if (plan.placement[i] == world.rank()) {
      mine.push_back(train_client(plan, i));
    }
  }
  const double compute = to_seconds(Clock::now() - start);
  world.set_phase("share records");
  const std::vector<ClientRecord> records = share(plan, mine);
  keep_versions();
  paramserver::FederatedServer::Noise noise;
  if (privacy) {
    noise = [this](std::int64_t begin, std::span<std::int64_t> sums) {
      privacy->add_noise(rounds_done, begin, sums);
    };
  }
  if (options.robust.kind == RobustKind::kNone) {
    server.apply_round(scale_of(records), noise);
  } else {
    apply_robust(plan, records);
  }
  RoundReport report;
  if (privacy) {
    report.privacy = settle_privacy(records);
  }
  report.cohort = static_cast<std::int64_t>(records.size());
  report.client_learning_rate = local.rate_of(rounds_done);
  learn_from(records, report);
  note_time(plan, report);
  report.round = ++rounds_done;
  report.seconds = to_seconds(Clock::now() - start);
  report.record = {.superstep = static_cast<std::uint64_t>(rounds_done),
                   .total_seconds = report.seconds,
                   .compute_seconds = compute,
                   .exchange_seconds = server.last_times().exchange_seconds,
                   .sync_wait_seconds = server.last_times().sync_seconds,
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

// The last cohort is that of the round just done. Nothing here moves the model.
void FederatedTrainer::State::evaluate_clients(LocalTrainer* held_out_trainer) {
  const auto score = [&](LocalTrainer& trainer, const std::vector<std::int64_t>& who) {
    return distribution_of(accuracies(score_clients(world, trainer, server.pull().buffer(), who)));
  };
  const auto everybody = [](const ClientData& data) {
    std::vector<std::int64_t> who(static_cast<std::size_t>(data.num_clients()));
    std::iota(who.begin(), who.end(), 0);
    return who;
  };
  world.set_phase("evaluate clients");
  local.set_labels(Labels::kTrue);
  ClientMetrics metrics{.accuracy_all = score(local, everybody(*clients)),
                        .accuracy_cohort = score(local, last_cohort),
                        .accuracy_held_out = {}};
  if (held_out_trainer != nullptr) {
    metrics.accuracy_held_out = score(*held_out_trainer, everybody(*held_out));
  }
  client_metrics = metrics;
  world.set_phase("compute");
}

RoundReport FederatedTrainer::run_round() {
  return state_->round();
}

FederatedResult FederatedTrainer::fit(const std::shared_ptr<const Dataset>& test,
                                      const std::shared_ptr<const ClientData>& held_out) {
  State& state = *state_;
  std::optional<LocalTrainer> judge;
  if (held_out != nullptr) {
    state.held_out = held_out;
    judge.emplace(state.model, held_out, state.options.local);
  }
  state.started = Clock::now();
  if (state.rounds_done == 0) {
    state.save();  // finds out now whether checkpoints can be written
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
      state.evaluate_clients(judge ? &*judge : nullptr);
      report.clients = state.client_metrics;
    }
    if (state.privacy && last) {
      double epsilon = state.world.rank() == 0 ? state.privacy->pld() : 0.0;
      state.world.broadcast(std::span<double>(&epsilon, 1), 0);
      state.last_privacy->pld = epsilon;
      report.privacy = state.last_privacy;
    }
    if (state.observer != nullptr) {
      state.observer->on_round(report);
    }
    const std::optional<StopReason> stop = state.stop_reason();
    if (stop.has_value() || state.checkpoint_due()) {
      state.save();
    }
    if (stop.has_value() && !last) {
      reason = *stop;
    }
  }
  state.save();
  if (reason == StopReason::kFinished && test != nullptr &&
      state.evaluated_at != state.rounds_done) {
    state.evaluate_model(*test);
  }
  const Hash128 hash = state.model.layout().parameters_hash(state.server.pull().buffer());
  state.world.require_same("parameters_hash at the end of training", to_text(hash));
  return {.reason = reason,
          .test = state.test,
          .parameters_hash = hash,
          .state_hash = state.saved_state_hash,
          .rounds = state.rounds_done,
          .client_rounds = state.client_rounds,
          .rejected = state.rejected,
          .upload_bytes = state.upload_bytes,
          .privacy = state.last_privacy,
          .time = state.time_so_far(),
          .clients = state.client_metrics,
          .best_accuracy = state.best_accuracy,
          .best_round = state.best_round,
          .train_seconds = to_seconds(Clock::now() - state.started),
          .last_checkpoint = state.last_checkpoint};
}

}  // namespace superstep::worker
