#include "cluster/train_run.h"

#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "base/aligned.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/hash.h"
#include "cluster/dry_run.h"
#include "cluster/handshake.h"
#include "cluster/launch_network.h"
#include "cluster/launch_record.h"
#include "cluster/standard_streams.h"
#include "cluster/stop_signals.h"
#include "cluster/world_shape.h"
#include "kernels/threads.h"
#include "paramserver/npz.h"
#include "worker/stop_request.h"

namespace superstep::cluster {

namespace {

bool is_stopped(worker::StopReason reason) {
  return reason == worker::StopReason::kSignal || reason == worker::StopReason::kWallTime;
}

// The last thing a rank does: `superstep launch` believes a job to be complete by these records.
void record_for_launcher(const bsp::World& world, const RunDirectory& directory,
                         const worker::TrainResult& result) {
  if (const std::optional<LaunchContext> launch = launch_context()) {
    write_outcome(directory.launch_records(),
                  {.launch = *launch,
                   .rank = world.rank(),
                   .num_ranks = world.size(),
                   .stopped = is_stopped(result.reason),
                   .reason = std::string(worker::name_of(result.reason)),
                   .superstep = result.supersteps,
                   .parameters_hash = to_text(result.parameters_hash),
                   .state_hash = to_text(result.state_hash)});
  }
}

// The launcher can do without.
void record_node_for_launcher(const bsp::World& world, const RunDirectory& directory) {
  const std::optional<LaunchContext> launch = launch_context();
  if (!launch || world.ranks_at(bsp::Level::kNode).front() != world.rank()) {
    return;
  }
  NodeRecord node{.launch = *launch,
                  .rank = world.rank(),
                  .host = world.host_of(world.rank()),
                  .addresses = {}};
  for (const Network& network : local_networks()) {
    if (!network.loopback) {
      node.addresses.push_back(network.address);
    }
  }
  try {
    write_node(directory.launch_records(), node);
  } catch (const DataError&) {
  }
}

}  // namespace

TrainRun::TrainRun(bsp::Environment& environment, const TrainArguments& arguments,
                   const std::vector<std::string>& command)
    : environment_(environment),
      arguments_(arguments),
      command_line_(fmt::format("{}", fmt::join(command, " "))),
      launch_(launch_of(environment, command.front())),
      setup_(make_setup(parse_arguments(arguments),
                        arguments.resume ? Begin::kResumed : Begin::kFresh,
                        arguments.dry_run ? Samples::kDescribed : Samples::kPresent)),
      opening_(environment, arguments, setup_, setup_.data.fingerprint, launch_) {
  require_not_stopped();
  require_enough_slots();
}

void TrainRun::require_not_stopped() {
  if (worker::stop_requested()) {
    throw CommunicationError("train",
                             "stopped by a signal before the first superstep: nothing was written; "
                             "start the same command again",
                             ExitCode::kStoppedResumable);
  }
}

void TrainRun::require_enough_slots() const {
  if (setup_.config.federated.rounds > 0) {
    throw InvalidArgument("train",
                          "'federated.rounds' > 0: this is the configuration of a federated run, "
                          "for superstep federated");
  }
  const std::int64_t ranks = environment_.num_processes() * setup_.config.bsp.lanes;
  const std::int64_t servers = setup_.config.server.servers;
  if (servers >= ranks) {
    throw InvalidArgument(
        "train",
        fmt::format("dedicated servers leave no rank to compute: got 'server.servers' = {} of {} "
                    "ranks ({} processes x {} lanes), expected at most {}. Start more ranks, or "
                    "ask for fewer servers",
                    servers, ranks, environment_.num_processes(), setup_.config.bsp.lanes,
                    ranks - 1));
  }
  const bool is_local = setup_.config.server.policy == "local";
  const std::int64_t slots = server_options(setup_).num_slots;
  if (ranks - servers > slots) {
    throw InvalidArgument(
        "train",
        fmt::format("more ranks than {}: got {} ranks ({} processes x {} lanes{}), expected "
                    "at most '{}' = {}. Start fewer ranks; or raise "
                    "{} (this changes the bits of the result)",
                    is_local ? "local workers" : "slots", ranks, environment_.num_processes(),
                    setup_.config.bsp.lanes,
                    servers > 0 ? fmt::format(", {} of them servers", servers) : "",
                    is_local ? "server.workers" : "train.microbatches", slots,
                    is_local ? "server.workers" : "train.microbatches"));
  }
}

int TrainRun::execute() {
  bsp::EnvironmentOptions options = environment_options(setup_.config);
  options.remedy = [this](ExitCode exit_code) { return remedy(exit_code); };
  if (launch_context() && !arguments_.out.empty()) {
    options.status_file = RunDirectory(arguments_.out).launch_records() /
                          fmt::format("status-{:05}.json", environment_.process());
  }
  if (arguments_.dry_run) {
    return environment_.run(options, [this](bsp::World& world) { explain_on_rank(world); });
  }
  const int code = environment_.run(options, [this](bsp::World& world) { train_on_rank(world); });
  return code != 0 ? code : exit_code_.load();
}

void TrainRun::explain_on_rank(bsp::World& world) const {
  require_same_run(world, setup_, environment_.mpi_library());
  if (opening_.is_root_rank(world)) {
    fmt::print("{}", dry_run_text(setup_, shape_of(world)));
  }
}

void TrainRun::initialize(paramserver::CollocatedServer& server) const {
  AlignedBuffer<float> parameters(setup_.model.layout().size());
  setup_.model.initialize(static_cast<std::uint64_t>(setup_.config.train.seed), parameters.span());
  if (!setup_.warm_start.empty()) {
    paramserver::read_weights(setup_.config.train.warm_start, setup_.model.layout(),
                              parameters.span());
  }
  server.load_parameters(parameters.span());
}

void TrainRun::start_reports(const bsp::World& world, TrainReporter& reporter) const {
  reporter.speak({.style = progress_style(environment_.under_mpirun()),
                  .epochs = setup_.config.train.epochs,
                  .total_supersteps = total_supersteps(setup_)},
                 setup_.config.train.log_every_supersteps,
                 opening_.directory().resume_command(launch_));
  reporter.say(fmt::format("{}: {} parameters, {}", opening_.directory().root().string(),
                           setup_.model.layout().num_parameters(), to_text(shape_of(world))));
  if (!opening_.checkpoint().empty()) {
    reporter.say(fmt::format("continuing from {}", opening_.checkpoint().string()));
  }
  for (const std::string& warning : opening_.warnings()) {
    write_line(stderr, "superstep: warning: " + warning);
  }
}

void TrainRun::train_on_rank(bsp::World& world) {
  kernels::set_team_size(1);
  require_same_run(world, setup_, environment_.mpi_library());
  SUPERSTEP_FAILPOINT_HERE(world.rank(), -1);
  SUPERSTEP_FAILPOINT("start");
  const RunOpening::Decisions decisions = opening_.agree(world);
  // What can fail for want of memory or of a fitting file comes before the run exists on disk.
  paramserver::CollocatedServer server(world, setup_.model.layout(), server_options(setup_));
  if (decisions.checkpoint.empty()) {
    initialize(server);
  }
  TrainReporter reporter(decisions.directory);
  if (opening_.is_root_rank(world)) {
    opening_.open(world, setup_.config, command_line_);
    start_reports(world, reporter);
  }
  world.sync();
  note_open_run(world, decisions.directory);
  record_node_for_launcher(world, decisions.directory);
  worker::TrainOptions options = train_options(setup_);
  options.checkpoint.directory = decisions.directory.checkpoints();
  options.checkpoint.run_id = decisions.run_id;
  worker::Trainer trainer(world, setup_.model, server, options, &reporter);
  if (!decisions.checkpoint.empty()) {
    const paramserver::CheckpointReader reader(decisions.checkpoint);
    world.require_same("checkpoint", to_text(reader.manifest().state_hash));
    trainer.restore(reader);
  }
  const worker::TrainResult result = trainer.fit(setup_.data.parts);
  SUPERSTEP_FAILPOINT("outcome");
  report_outcome(world, server, result, reporter);
  record_for_launcher(world, decisions.directory, result);
}

RunSummary TrainRun::summary_of(const bsp::World& world, const worker::TrainResult& result,
                                const TrainReporter& reporter) const {
  const worker::TrainingData& parts = setup_.data.parts;
  const std::string& preset = setup_.config.model.preset;
  RunSummary summary;
  summary.run_id = opening_.run_id();
  summary.model = preset.empty() ? "layers" : preset;
  summary.num_parameters = setup_.model.layout().num_parameters();
  summary.data_fingerprint = setup_.data.fingerprint;
  summary.train_samples = parts.train->size();
  summary.validation_samples = parts.validation ? parts.validation->size() : 0;
  summary.test_samples = parts.test ? parts.test->size() : 0;
  summary.world = shape_of(world);
  summary.resumed_from_superstep = opening_.resume_superstep();
  const worker::PolicyOptions policy = policy_options(setup_.config);
  summary.policy = worker::name_of(policy.kind);
  summary.policy_workers = policy.workers;
  summary.result = result;
  summary.exit_code = exit_code_.load();
  summary.wall_seconds = since_start_.seconds();
  summary.checkpoint_seconds = reporter.checkpoint_seconds();
  summary.checkpoints_written = reporter.checkpoints_written();
  return summary;
}

void TrainRun::report_outcome(bsp::World& world, const paramserver::CollocatedServer& server,
                              const worker::TrainResult& result, TrainReporter& reporter) {
  const paramserver::MemoryUse memory = gather_memory(world, server.memory_use());
  std::vector<RankTotals> totals = gather_totals(world, reporter.totals());
  exit_code_.store(
      static_cast<int>(is_stopped(result.reason) ? ExitCode::kStoppedResumable : ExitCode::kDone));
  reporter.require_finite_outcome(result);
  if (opening_.is_root_rank(world)) {
    RunSummary summary = summary_of(world, result, reporter);
    summary.memory = memory;
    summary.checkpoint_copy_bytes =
        checkpoint_copy_bytes(setup_.config.checkpoint, memory, world.size());
    summary.rank_totals = std::move(totals);
    write_file_atomically(opening_.directory().summary(), summary_json(summary));
    set_stop_notice("");
    say_outcome(result, reporter);
  }
}

void TrainRun::note_open_run(const bsp::World& world, const RunDirectory& directory) {
  if (world.lane() == 0) {
    const std::lock_guard lock(open_run_mutex_);
    open_run_ = directory;
  }
}

std::string TrainRun::remedy(ExitCode exit_code) const {
  if (exit_code != ExitCode::kFailure && exit_code != ExitCode::kStoppedResumable) {
    return {};
  }
  std::string text;
  if (exit_code == ExitCode::kStoppedResumable) {
    text = fmt::format(
        "if the missing ranks were slow rather than lost, raise bsp.sync_deadline_seconds (now {})",
        setup_.config.bsp.sync_deadline_seconds);
  }
  const std::lock_guard lock(open_run_mutex_);
  if (!open_run_) {
    return text;
  }
  try {
    if (const auto newest = paramserver::newest_checkpoint(open_run_->checkpoints())) {
      text +=
          fmt::format("{}the newest checkpoint is {}\nto continue:\n  {}", text.empty() ? "" : "\n",
                      newest->string(), open_run_->resume_command(launch_));
    }
  } catch (const std::exception&) {
    // The error being reported is the one to know about.
  }
  return text;
}

void TrainRun::say_outcome(const worker::TrainResult& result, TrainReporter& reporter) const {
  if (is_stopped(result.reason)) {
    reporter.say(fmt::format("stopped ({}) after superstep {}; checkpoint {}\nto continue:\n  {}",
                             worker::name_of(result.reason), result.supersteps,
                             result.last_checkpoint.string(),
                             opening_.directory().resume_command(launch_)));
  } else {
    reporter.say(final_line(result));
  }
}

}  // namespace superstep::cluster
