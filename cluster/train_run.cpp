#include "cluster/train_run.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "base/aligned.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "cluster/dry_run.h"
#include "cluster/handshake.h"
#include "cluster/metrics_log.h"
#include "cluster/run_model.h"
#include "cluster/standard_streams.h"
#include "cluster/stop_signals.h"
#include "cluster/world_shape.h"
#include "kernels/threads.h"
#include "paramserver/npz.h"
#include "worker/stop_request.h"

namespace superstep::cluster {

namespace {

ParsedConfig parse(const TrainArguments& arguments) {
  std::vector<std::string> overrides = arguments.overrides;
  if (arguments.lanes) {
    for (const std::string& given : overrides) {
      if (given.starts_with("bsp.lanes=")) {
        throw InvalidArgument(
            "command line", fmt::format("'bsp.lanes' is given twice: by --lanes {} and by --set {}",
                                        *arguments.lanes, given));
      }
    }
    overrides.push_back(fmt::format("bsp.lanes={}", *arguments.lanes));
  }
  ParsedConfig parsed = read_config(arguments.config, overrides);
  require_valid(parsed);
  return parsed;
}

// The one string of an allgather that the root rank gave; empty when it gave none.
std::string from_root(bsp::World& world, const std::string& mine) {
  for (const std::string& text : world.allgather_string(mine)) {
    if (!text.empty()) {
      return text;
    }
  }
  return {};
}

bool is_stopped(worker::StopReason reason) {
  return reason == worker::StopReason::kSignal || reason == worker::StopReason::kWallTime;
}

Launch launch_of(const bsp::Environment& environment, const std::string& program) {
  const int processes = environment.num_processes();
  return {.program = program,
          .num_processes = processes,
          .oversubscribed = processes > ::sysconf(_SC_NPROCESSORS_ONLN)};
}

}  // namespace

TrainRun::TrainRun(bsp::Environment& environment, const TrainArguments& arguments,
                   const std::vector<std::string>& command)
    : environment_(environment),
      arguments_(arguments),
      command_line_(fmt::format("{}", fmt::join(command, " "))),
      launch_(launch_of(environment, command.front())),
      setup_(make_setup(parse(arguments), arguments.resume ? Begin::kResumed : Begin::kFresh)) {
  require_not_stopped();
  require_enough_slots();
  if (arguments_.resume && arguments_.out.empty()) {
    throw InvalidArgument("train",
                          "--resume needs --out with the directory of the run to continue");
  }
  if (!environment_.is_root_process() || arguments_.dry_run) {
    return;
  }
  if (arguments_.resume) {
    prepare_resume();
  } else {
    choose_new_directory();
  }
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
  const std::int64_t ranks = environment_.num_processes() * setup_.config.bsp.lanes;
  const std::int64_t slots = setup_.config.train.microbatches;
  if (ranks > slots) {
    throw InvalidArgument(
        "train",
        fmt::format("more ranks than slots: got {} ranks ({} processes x {} lanes), expected "
                    "at most 'train.microbatches' = {}. Start fewer ranks; or raise "
                    "train.microbatches (this changes the bits of the result)",
                    ranks, environment_.num_processes(), setup_.config.bsp.lanes, slots));
  }
}

void TrainRun::choose_new_directory() {
  directory_ =
      RunDirectory(arguments_.out.empty()
                       ? default_run_directory(arguments_.config, std::chrono::system_clock::now())
                       : std::filesystem::path(arguments_.out));
  directory_.require_new_or_empty(launch_);
  provenance_.run_id = new_run_id();
  provenance_.data_fingerprint = setup_.data.fingerprint;
  provenance_.normalization = setup_.normalization;
  for (const std::int64_t size : setup_.model.sample_shape().sizes()) {
    provenance_.sample_shape.push_back(size);
  }
}

void TrainRun::prepare_resume() {
  directory_ = RunDirectory(arguments_.out);
  directory_.require_run();
  lock_.emplace(directory_);
  const RunConfig before = directory_.read_config();
  warnings_ = differences_that_change_a_resumed_run(before, setup_.config);
  const std::vector<std::string> refused = differences_refused_on_resume(before, setup_.config);
  if (!refused.empty()) {
    throw InvalidArgument("train",
                          fmt::format("the run in {} cannot continue with another "
                                      "configuration:\n  {}",
                                      directory_.root().string(), fmt::join(refused, "\n  ")));
  }
  provenance_ = read_provenance(directory_.provenance());
  if (provenance_.data_fingerprint != setup_.data.fingerprint) {
    throw DataError("train", setup_.config.data.directory, -1,
                    fmt::format("the run in {} was trained on other data: got {}, expected {}",
                                directory_.root().string(), setup_.data.fingerprint,
                                provenance_.data_fingerprint));
  }
  if (const auto newest = checkpoint_to_resume(directory_, provenance_, setup_.model)) {
    checkpoint_ = *newest;
    resume_superstep_ = paramserver::CheckpointReader(*newest).manifest().position.superstep;
  }
}

bool TrainRun::is_root_rank(const bsp::World& world) const {
  return environment_.is_root_process() && world.lane() == 0;
}

int TrainRun::execute() {
  bsp::EnvironmentOptions options = environment_options(setup_.config);
  options.remedy = [this](ExitCode exit_code) { return remedy(exit_code); };
  if (arguments_.dry_run) {
    return environment_.run(options, [this](bsp::World& world) { explain_on_rank(world); });
  }
  const int code = environment_.run(options, [this](bsp::World& world) { train_on_rank(world); });
  return code != 0 ? code : exit_code_.load();
}

void TrainRun::explain_on_rank(bsp::World& world) const {
  require_same_run(world, setup_);
  if (is_root_rank(world)) {
    fmt::print("{}", dry_run_text(setup_, shape_of(world)));
  }
}

TrainRun::Decisions TrainRun::agree(bsp::World& world) const {
  const bool root = is_root_rank(world);
  return {.directory = RunDirectory(from_root(world, root ? directory_.root().string() : "")),
          .run_id = from_root(world, root ? provenance_.run_id : ""),
          .checkpoint = from_root(world, root ? checkpoint_.string() : "")};
}

// On the root rank: from here on the run exists on disk.
void TrainRun::open_directory(const bsp::World& world) {
  directory_.create();
  if (!lock_) {
    lock_.emplace(directory_);
  }
  const WorldShape shape = shape_of(world);
  provenance_.starts.push_back({.time = utc_iso8601(),
                                .command_line = command_line_,
                                .ranks = shape.ranks,
                                .processes = shape.processes,
                                .lanes = shape.lanes,
                                .hosts = shape.hosts,
                                .from_superstep = std::max<std::int64_t>(resume_superstep_, 0)});
  write_file_atomically(directory_.config(), to_toml(setup_.config));
  write_provenance(directory_.provenance(), provenance_);
  truncate_metrics(directory_.metrics(), std::max<std::int64_t>(resume_superstep_, 0));
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
                 setup_.config.train.log_every_supersteps, directory_.resume_command(launch_));
  reporter.say(fmt::format("{}: {} parameters, {}", directory_.root().string(),
                           setup_.model.layout().num_parameters(), to_text(shape_of(world))));
  if (!checkpoint_.empty()) {
    reporter.say(fmt::format("continuing from {}", checkpoint_.string()));
  }
  for (const std::string& warning : warnings_) {
    write_line(stderr, "superstep: warning: " + warning);
  }
}

void TrainRun::train_on_rank(bsp::World& world) {
  kernels::set_team_size(1);
  require_same_run(world, setup_);
  const Decisions decisions = agree(world);
  // What can fail for want of memory or of a fitting file comes before the run exists on disk.
  paramserver::CollocatedServer server(world, setup_.model.layout(), server_options(setup_));
  if (decisions.checkpoint.empty()) {
    initialize(server);
  }
  TrainReporter reporter(decisions.directory);
  if (is_root_rank(world)) {
    open_directory(world);
    start_reports(world, reporter);
  }
  world.sync();
  note_open_run(world, decisions.directory);
  worker::TrainOptions options = train_options(setup_);
  options.checkpoint.directory = decisions.directory.checkpoints();
  options.checkpoint.run_id = decisions.run_id;
  worker::Trainer trainer(world, setup_.model, server, options, &reporter);
  if (!decisions.checkpoint.empty()) {
    trainer.restore(paramserver::CheckpointReader(decisions.checkpoint));
  }
  report_outcome(world, server, trainer.fit(setup_.data.parts), reporter);
}

RunSummary TrainRun::summary_of(const bsp::World& world, const worker::TrainResult& result,
                                const TrainReporter& reporter) const {
  const worker::TrainingData& parts = setup_.data.parts;
  const std::string& preset = setup_.config.model.preset;
  RunSummary summary;
  summary.run_id = provenance_.run_id;
  summary.model = preset.empty() ? "layers" : preset;
  summary.num_parameters = setup_.model.layout().num_parameters();
  summary.data_fingerprint = setup_.data.fingerprint;
  summary.train_samples = parts.train->size();
  summary.validation_samples = parts.validation ? parts.validation->size() : 0;
  summary.test_samples = parts.test ? parts.test->size() : 0;
  summary.world = shape_of(world);
  summary.resumed_from_superstep = resume_superstep_;
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
  if (is_root_rank(world)) {
    RunSummary summary = summary_of(world, result, reporter);
    summary.memory = memory;
    summary.rank_totals = std::move(totals);
    write_file_atomically(directory_.summary(), summary_json(summary));
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
        "\nif the missing ranks were slow rather than lost, raise bsp.sync_deadline_seconds (now "
        "{})",
        setup_.config.bsp.sync_deadline_seconds);
  }
  const std::lock_guard lock(open_run_mutex_);
  if (!open_run_) {
    return text;
  }
  try {
    if (const auto newest = paramserver::newest_checkpoint(open_run_->checkpoints())) {
      text += fmt::format("\nthe newest checkpoint is {}\nto continue:\n  {}", newest->string(),
                          open_run_->resume_command(launch_));
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
                             result.last_checkpoint.string(), directory_.resume_command(launch_)));
  } else {
    reporter.say(final_line(result));
  }
}

}  // namespace superstep::cluster
