#include "cluster/run_opening.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "cluster/launch_record.h"
#include "cluster/metrics_log.h"
#include "cluster/run_model.h"
#include "cluster/standard_streams.h"
#include "cluster/world_shape.h"
#include "paramserver/checkpoint.h"
#include "paramserver/partner_restore.h"

namespace superstep::cluster {

namespace {

// The one string of an allgather that the root rank gave; empty when it gave none.
std::string from_root(bsp::World& world, const std::string& mine) {
  for (const std::string& text : world.allgather_string(mine)) {
    if (!text.empty()) {
      return text;
    }
  }
  return {};
}

// An option that stands for a key, beside those that --set gave.
void override_once(std::string_view option, std::string_view key, std::optional<int> value,
                   std::vector<std::string>& overrides) {
  if (!value) {
    return;
  }
  for (const std::string& given : overrides) {
    if (given.starts_with(fmt::format("{}=", key))) {
      throw InvalidArgument(
          "command line",
          fmt::format("'{}' is given twice: by {} {} and by --set {}", key, option, *value, given));
    }
  }
  overrides.push_back(fmt::format("{}={}", key, *value));
}

}  // namespace

ParsedConfig parse_arguments(const TrainArguments& arguments) {
  std::vector<std::string> overrides = arguments.overrides;
  override_once("--lanes", "bsp.lanes", arguments.lanes, overrides);
  override_once("--servers", "server.servers", arguments.servers, overrides);
  ParsedConfig parsed = read_config(arguments.config, overrides);
  require_valid(parsed);
  return parsed;
}

Launch launch_of(const bsp::Environment& environment, const std::string& program) {
  const int processes = environment.num_processes();
  return {.program = program,
          .num_processes = processes,
          .oversubscribed = processes > ::sysconf(_SC_NPROCESSORS_ONLN)};
}

RunOpening::RunOpening(const bsp::Environment& environment, const TrainArguments& arguments,
                       const RunSetup& setup, const std::string& fingerprint, const Launch& launch)
    : is_root_process_(environment.is_root_process()),
      setup_(setup),
      is_resumed_(arguments.resume) {
  if (arguments.resume && arguments.out.empty()) {
    throw InvalidArgument("train",
                          "--resume needs --out with the directory of the run to continue");
  }
  if (!is_root_process_ || arguments.dry_run) {
    return;
  }
  if (arguments.resume) {
    prepare_resume(arguments, setup, fingerprint);
  } else {
    choose_new_directory(arguments, setup, fingerprint, launch);
  }
}

void RunOpening::choose_new_directory(const TrainArguments& arguments, const RunSetup& setup,
                                      const std::string& fingerprint, const Launch& launch) {
  directory_ =
      RunDirectory(arguments.out.empty()
                       ? default_run_directory(arguments.config, std::chrono::system_clock::now())
                       : std::filesystem::path(arguments.out));
  directory_.require_new_or_empty(launch);
  provenance_.run_id = new_run_id();
  provenance_.data_fingerprint = fingerprint;
  provenance_.normalization = setup.normalization;
  for (const std::int64_t size : setup.model.sample_shape().sizes()) {
    provenance_.sample_shape.push_back(size);
  }
}

void RunOpening::prepare_resume(const TrainArguments& arguments, const RunSetup& setup,
                                const std::string& fingerprint) {
  directory_ = RunDirectory(arguments.out);
  directory_.require_run();
  lock_.emplace(directory_);
  const RunConfig before = directory_.read_config();
  warnings_ = differences_that_change_a_resumed_run(before, setup.config);
  const std::vector<std::string> refused = differences_refused_on_resume(before, setup.config);
  if (!refused.empty()) {
    throw InvalidArgument("train",
                          fmt::format("the run in {} cannot continue with another "
                                      "configuration:\n  {}",
                                      directory_.root().string(), fmt::join(refused, "\n  ")));
  }
  provenance_ = read_provenance(directory_.provenance());
  if (provenance_.data_fingerprint != fingerprint) {
    throw DataError(
        "train", setup.config.data.directory, -1,
        fmt::format("the run in {} was trained on other data: got {}, expected {}",
                    directory_.root().string(), fingerprint, provenance_.data_fingerprint));
  }
  try {
    choose_checkpoint();
  } catch (const DataError&) {
    if (setup.config.checkpoint.partner_directory.empty()) {
      throw;
    }
    no_checkpoint_ = std::current_exception();
  }
}

void RunOpening::choose_checkpoint() {
  if (const auto newest = checkpoint_to_resume(directory_, provenance_, setup_.model)) {
    checkpoint_ = *newest;
    resume_superstep_ = paramserver::CheckpointReader(*newest).manifest().position.superstep;
  }
}

void RunOpening::restore_from_partners(bsp::World& world, const RunDirectory& directory,
                                       const std::string& run_id) {
  const paramserver::RestoredFromPartners restored = paramserver::restore_from_partners(
      world, {.partner_directory = setup_.config.checkpoint.partner_directory,
              .run_id = run_id,
              .checkpoints = directory.checkpoints(),
              .newer_than = is_root_rank(world) ? resume_superstep_ : -1});
  if (!is_root_rank(world)) {
    return;
  }
  for (const std::string& line : restored.lines) {
    write_line(stderr, "superstep: " + line);
  }
  if (restored.any) {
    choose_checkpoint();
  } else if (no_checkpoint_) {
    std::rethrow_exception(no_checkpoint_);
  }
}

bool RunOpening::is_root_rank(const bsp::World& world) const {
  return is_root_process_ && world.lane() == 0;
}

RunOpening::Decisions RunOpening::agree(bsp::World& world) {
  const bool root = is_root_rank(world);
  Decisions decisions{
      .directory = RunDirectory(from_root(world, root ? directory_.root().string() : "")),
      .run_id = from_root(world, root ? provenance_.run_id : ""),
      .checkpoint = {}};
  if (is_resumed_ && !setup_.config.checkpoint.partner_directory.empty()) {
    restore_from_partners(world, decisions.directory, decisions.run_id);
  }
  decisions.checkpoint = from_root(world, root ? checkpoint_.string() : "");
  return decisions;
}

void RunOpening::open(const bsp::World& world, const RunConfig& config,
                      const std::string& command_line) {
  directory_.create();
  if (!lock_) {
    lock_.emplace(directory_);
  }
  if (resume_superstep_ >= 0) {
    paramserver::set_aside_newer(directory_.checkpoints(), resume_superstep_);
  }
  const WorldShape shape = shape_of(world);
  provenance_.starts.push_back({.time = utc_iso8601(),
                                .command_line = command_line,
                                .ranks = shape.ranks,
                                .processes = shape.processes,
                                .lanes = shape.lanes,
                                .hosts = shape.hosts,
                                .from_superstep = std::max<std::int64_t>(resume_superstep_, 0),
                                .precision = config.train.precision});
  if (launch_context()) {
    make_launch_directory(directory_.launch_records());
  }
  write_provenance(directory_.provenance(), provenance_);
  // The configuration makes the directory a run (RunDirectory::require_run): it comes last.
  write_file_atomically(directory_.config(), to_toml(config));
  // The ledger of a private run stays: rounds that are done again have drawn noise before.
  for (const std::filesystem::path& file : {directory_.metrics(), directory_.audit()}) {
    truncate_metrics(file, std::max<std::int64_t>(resume_superstep_, 0));
  }
}

}  // namespace superstep::cluster
