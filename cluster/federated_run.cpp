#include "cluster/federated_run.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/text.h"
#include "cluster/client_reports.h"
#include "cluster/handshake.h"
#include "cluster/stop_signals.h"
#include "cluster/world_shape.h"
#include "kernels/threads.h"
#include "paramserver/checkpoint.h"
#include "paramserver/npz.h"
#include "worker/federated/federated_clock.h"

namespace superstep::cluster {

namespace {

bool is_stopped(worker::StopReason reason) {
  return reason == worker::StopReason::kSignal || reason == worker::StopReason::kWallTime;
}

// Of what every process reads. Checkpoints know the clients that lie at sites.
std::string fingerprint_of(const FederatedSetup& setup) {
  if (setup.clients.train == nullptr) {
    return setup.run.data.fingerprint;
  }
  std::string text = fmt::format("{}; clients: {}", setup.run.data.fingerprint,
                                 setup.clients.train->fingerprint());
  if (setup.held_out) {
    text += fmt::format("; held out: {}", setup.held_out->fingerprint());
  }
  return text + worker::fingerprint(setup.options.device);
}

std::string participation_of(const worker::FederatedOptions& options) {
  const worker::AsynchronyOptions& asynchrony = options.asynchrony;
  return asynchrony.kind == worker::Asynchrony::kNone
             ? fmt::format("{} per round ({})", grouped(options.cohort.size),
                           worker::name_of(options.cohort.sampling))
             : fmt::format("{} in training at a time, {} per update ({})",
                           grouped(asynchrony.concurrency),
                           grouped(worker::reports_per_update(asynchrony)),
                           worker::name_of(asynchrony.kind));
}

// What a centralised run would say of the same outcome.
worker::TrainResult as_train_result(const worker::FederatedResult& result) {
  worker::TrainResult train;
  train.reason = result.reason;
  train.test = result.test;
  train.parameters_hash = result.parameters_hash;
  train.state_hash = result.state_hash;
  train.supersteps = result.rounds;
  train.epochs = result.rounds;
  train.train_seconds = result.train_seconds;
  train.last_checkpoint = result.last_checkpoint;
  train.best_epoch = result.best_round;
  return train;
}

}  // namespace

FederatedRun::FederatedRun(bsp::Environment& environment, const TrainArguments& arguments,
                           const std::vector<std::string>& command)
    : environment_(environment),
      arguments_(arguments),
      command_line_(fmt::format("{}", fmt::join(command, " "))),
      launch_(launch_of(environment, command.front())),
      setup_(make_federated_setup(parse_arguments(arguments),
                                  arguments.resume ? Begin::kResumed : Begin::kFresh)),
      opening_(environment, arguments, setup_.run, fingerprint_of(setup_), launch_) {}

int FederatedRun::execute() {
  const bsp::EnvironmentOptions options = environment_options(setup_.run.config);
  if (arguments_.dry_run) {
    return environment_.run(options, [this](bsp::World& world) { explain_on_rank(world); });
  }
  const int code = environment_.run(options, [this](bsp::World& world) { train_on_rank(world); });
  return code != 0 ? code : exit_code_.load();
}

void FederatedRun::explain_on_rank(bsp::World& world) const {
  require_same_run(world, setup_.run, environment_.mpi_library());
  const std::shared_ptr<const worker::ClientData> clients = agree_on_clients(world).train;
  const worker::FederatedOptions options = options_of_rank(world, *clients);
  if (!opening_.is_root_rank(world)) {
    return;
  }
  worker::FederatedOptions checked = options;
  checked.client_store = "clients";
  const paramserver::ParameterLayout& layout = setup_.run.model.layout();
  const paramserver::RingFormat ring = worker::check_federated(checked, *clients, layout);
  fmt::print("world: {}\n", to_text(shape_of(world)));
  fmt::print("clients: {} with {} samples, {}\n", grouped(clients->num_clients()),
             grouped(clients->total_samples()), participation_of(options));
  fmt::print("rounds: {} of {}\n", grouped(options.rounds),
             worker::name_of(options.algorithm.kind));
  if (options.personalization.kind != worker::PersonalizationKind::kNone) {
    fmt::print("personal models: {}\n", worker::name_of(options.personalization.kind));
  }
  fmt::print("sums: {} fraction bits in integers of {} bits, values up to {}\n", ring.fraction_bits,
             ring.bits, ring.value_bound);
  if (const auto spent = worker::projected_privacy(checked, *clients, layout)) {
    fmt::print(
        "privacy: epsilon {:.4g} (PLD), {:.4g} (RDP) at delta {} after {} rounds; noise {}\n",
        *spent->pld, spent->rdp.epsilon, spent->delta, grouped(options.rounds),
        worker::name_of(options.privacy.noise_source));
  }
  if (worker::has_clock(options)) {
    explain_time(clients, options);
  }
  fmt::print("model: {} parameters\n{}", grouped(layout.num_parameters()),
             setup_.run.model.summary());
}

// Nothing of virtual time depends on what is trained, so it can be told before.
void FederatedRun::explain_time(const std::shared_ptr<const worker::ClientData>& clients,
                                const worker::FederatedOptions& options) const {
  constexpr std::int64_t kMostRounds = 10'000;
  const paramserver::ParameterLayout& layout = setup_.run.model.layout();
  worker::FederatedClock clock(options, clients, layout);
  const worker::ClockTotals totals = worker::forecast(clock, std::min(options.rounds, kMostRounds));
  fmt::print(
      "virtual time: {:.6g} s for {} rounds; {} client rounds used; not used: {} late, {} "
      "dropped out, {} went away, {} too stale\n",
      worker::virtual_seconds(totals.end), grouped(totals.rounds), grouped(totals.used),
      grouped(totals.late), grouped(totals.dropped), grouped(totals.gone), grouped(totals.stale));
  if (options.asynchrony.kind != worker::Asynchrony::kNone) {
    fmt::print(
        "staleness: mean {:.3g}, most {}; older models kept: at most {}, {} per node\n",
        totals.staleness_mean(), totals.staleness_max, totals.versions,
        human_bytes(totals.versions * layout.size() * static_cast<std::int64_t>(sizeof(float))));
  }
}

ClientParts FederatedRun::agree_on_clients(bsp::World& world) const {
  ClientParts clients = clients_of_rank(world, setup_);
  world.require_same("clients", clients.train->fingerprint());
  return clients;
}

worker::FederatedOptions FederatedRun::options_of_rank(bsp::World& world,
                                                       const worker::ClientData& clients) const {
  worker::FederatedOptions options = options_for(setup_, clients);
  world.require_same("devices", worker::fingerprint(options.device));
  return options;
}

void FederatedRun::initialize(worker::FederatedTrainer& trainer) const {
  const worker::Model& model = setup_.run.model;
  AlignedBuffer<float> parameters(model.layout().size());
  model.initialize(static_cast<std::uint64_t>(setup_.run.config.train.seed), parameters.span());
  if (!setup_.run.warm_start.empty()) {
    paramserver::read_weights(setup_.run.config.train.warm_start, model.layout(),
                              parameters.span());
  }
  trainer.load_parameters(parameters.span());
}

std::string_view FederatedRun::initial_model() const {
  return setup_.run.config.train.warm_start.empty() ? "random" : "warm_start";
}

void FederatedRun::start_reports(const bsp::World& world, const worker::ClientData& clients,
                                 FederatedReporter& reporter) const {
  reporter.speak({.style = ProgressStyle::kLines}, setup_.options.rounds,
                 setup_.run.config.train.log_every_supersteps,
                 opening_.directory().resume_command(launch_));
  reporter.set_initial_model(initial_model());
  reporter.say(fmt::format(
      "{}: {} parameters, {} clients, {}", opening_.directory().root().string(),
      setup_.run.model.layout().num_parameters(), clients.num_clients(), to_text(shape_of(world))));
  if (!opening_.checkpoint().empty()) {
    reporter.say(fmt::format("continuing from {}", opening_.checkpoint().string()));
  }
}

void FederatedRun::train_on_rank(bsp::World& world) {
  kernels::set_team_size(1);
  require_same_run(world, setup_.run, environment_.mpi_library());
  const RunOpening::Decisions decisions = opening_.agree(world);
  std::optional<worker::Audit> audit;
  if (setup_.run.config.federated.audit) {
    audit.emplace(world);
  }
  const ClientParts clients = agree_on_clients(world);
  FederatedReporter reporter(decisions.directory);
  worker::FederatedOptions options = options_of_rank(world, *clients.train);
  options.checkpoint.directory = decisions.directory.checkpoints();
  options.checkpoint.run_id = decisions.run_id;
  options.client_store = decisions.directory.root() / "clients";
  if (options.privacy.kind != worker::PrivacyKind::kNone) {
    const std::int64_t lines =
        opening_.is_root_rank(world) ? count_lines(decisions.directory.privacy()) : 0;
    options.privacy.executed_rounds = world.allreduce(lines, bsp::ReduceOp::kMax);
  }
  options.audit = audit ? &*audit : nullptr;
  // What can fail for want of memory comes before the run exists on disk.
  worker::FederatedTrainer trainer(world, setup_.run.model, clients.train, options, &reporter);
  if (decisions.checkpoint.empty()) {
    initialize(trainer);
  }
  if (opening_.is_root_rank(world)) {
    opening_.open(world, setup_.run.config, command_line_);
    start_reports(world, *clients.train, reporter);
  }
  world.sync();
  if (!decisions.checkpoint.empty()) {
    trainer.restore(paramserver::CheckpointReader(decisions.checkpoint));
  }
  const worker::FederatedResult result =
      trainer.fit(setup_.run.data.parts.test, setup_.held_out, clients.tests);
  if (audit) {
    audit->stop();
  }
  report_outcome(world, trainer, clients, result, reporter);
}

RunSummary FederatedRun::summary_of(const bsp::World& world,
                                    const worker::FederatedTrainer& trainer,
                                    const worker::ClientData& clients,
                                    const worker::FederatedResult& result,
                                    const FederatedReporter& reporter) const {
  const worker::TrainingData& parts = setup_.run.data.parts;
  const std::string& preset = setup_.run.config.model.preset;
  RunSummary summary;
  summary.run_id = opening_.run_id();
  summary.model = preset.empty() ? "layers" : preset;
  summary.num_parameters = setup_.run.model.layout().num_parameters();
  summary.data_fingerprint = fingerprint_of(setup_);
  summary.train_samples = clients.total_samples();
  summary.test_samples = parts.test ? parts.test->size() : 0;
  summary.world = shape_of(world);
  summary.resumed_from_superstep = opening_.resume_superstep();
  summary.result = as_train_result(result);
  summary.exit_code = exit_code_.load();
  summary.wall_seconds = since_start_.seconds();
  summary.checkpoint_seconds = reporter.checkpoint_seconds();
  summary.checkpoints_written = reporter.checkpoints_written();
  summary.federated = FederatedSummary{
      .algorithm = std::string(worker::name_of(setup_.options.algorithm.kind)),
      .clients = clients.num_clients(),
      .cohort = setup_.options.cohort.size,
      .sampling = std::string(worker::name_of(setup_.options.cohort.sampling)),
      .client_rounds = result.client_rounds,
      .client_rounds_of_start = result.client_rounds_of_start,
      .rejected = result.rejected,
      .rounds_without_effect = result.rounds_without_effect,
      .upload_bytes = result.upload_bytes,
      .download_bytes = result.download_bytes,
      .best_accuracy = result.best_accuracy,
      .best_round = result.best_round,
      .personalization = std::string(worker::name_of(setup_.options.personalization.kind)),
      .clients_judged = result.clients,
      .privacy = result.privacy,
      .asynchrony = setup_.run.config.federated.asynchrony.kind,
      .time = result.time,
      .initial_model = std::string(initial_model()),
      .ring_bits = trainer.ring().bits,
      .fraction_bits = trainer.ring().fraction_bits};
  return summary;
}

void FederatedRun::report_outcome(bsp::World& world, const worker::FederatedTrainer& trainer,
                                  const ClientParts& clients, const worker::FederatedResult& result,
                                  FederatedReporter& reporter) {
  const paramserver::MemoryUse memory = gather_memory(world, trainer.memory_use());
  std::vector<RankTotals> totals = gather_totals(world, reporter.totals());
  exit_code_.store(
      static_cast<int>(is_stopped(result.reason) ? ExitCode::kStoppedResumable : ExitCode::kDone));
  if (!opening_.is_root_rank(world)) {
    return;
  }
  RunSummary summary = summary_of(world, trainer, *clients.train, result, reporter);
  summary.memory = memory;
  summary.checkpoint_copy_bytes =
      checkpoint_copy_bytes(setup_.run.config.checkpoint, memory, world.size());
  summary.rank_totals = std::move(totals);
  write_file_atomically(opening_.directory().summary(), summary_json(summary));
  if (result.clients) {
    write_file_atomically(
        opening_.directory().client_table(),
        client_table(*result.clients->table, *clients.train, clients.tests.get()));
  }
  set_stop_notice("");
  if (is_stopped(result.reason)) {
    reporter.say(fmt::format("stopped ({}) after round {}; checkpoint {}\nto continue:\n  {}",
                             worker::name_of(result.reason), result.rounds,
                             result.last_checkpoint.string(),
                             opening_.directory().resume_command(launch_)));
  } else {
    reporter.say(final_line(summary.result));
  }
}

}  // namespace superstep::cluster
