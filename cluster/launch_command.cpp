#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "cluster/commands.h"
#include "cluster/launch_caretaker.h"
#include "cluster/launch_hosts.h"
#include "cluster/launch_leftovers.h"
#include "cluster/launch_network.h"
#include "cluster/launch_policy.h"
#include "cluster/launch_process.h"
#include "cluster/launch_record.h"
#include "cluster/launch_text.h"
#include "cluster/launch_watch.h"
#include "cluster/launcher_check.h"
#include "cluster/provenance.h"
#include "cluster/run_directory.h"
#include "cluster/run_opening.h"
#include "cluster/signal_inbox.h"
#include "paramserver/checkpoint.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Open MPI's parameters for a supervised job: a lost node is noticed within about 11 s instead of 8
// minutes, a job that does not start ends, and a rank's death is never hidden. Those that the user
// sets are left alone, but for the last two, which cannot be set (cluster/launch_hosts.cpp).
constexpr std::pair<const char*, const char*> kParameters[] = {
    {"oob_tcp_keepalive_time", "5"},   {"oob_tcp_keepalive_intvl", "2"},
    {"oob_tcp_keepalive_probes", "3"}, {"orte_startup_timeout", "120"},
    {"orte_enable_recovery", "0"},     {"orte_abort_on_non_zero_status", "1"}};

constexpr std::chrono::seconds kPatienceWithFiles{10};

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000.0));
}

class Launcher {
 public:
  Launcher(const LaunchArguments& arguments, std::string command_line)
      : arguments_(arguments),
        command_line_(std::move(command_line)),
        id_(new_run_id()),
        hosts_(HostPlan::from_options(arguments.mpirun_options)),
        policy_({.max_restarts = arguments.max_restarts}),
        run_(arguments.train.out.empty()
                 ? default_run_directory(arguments.train.config, std::chrono::system_clock::now())
                 : fs::path(arguments.train.out)) {
    if (arguments_.train.dry_run) {
      throw InvalidArgument(kLaunch, "--dry-run trains nothing: run it without launch");
    }
    require_own_run();
    std::error_code error;
    program_ = fs::read_symlink("/proc/self/exe", error);
    if (error) {
      throw InvalidArgument(
          kLaunch, fmt::format("cannot find this program's own file: {}", error.message()));
    }
  }

  int run() {
    SignalInbox signals;
    compare_deadlines();
    if (arguments_.train.resume) {
      policy_.continue_from(find_newest_checkpoint());
    }
    while (true) {
      const Decision decision = attempt(signals);
      if (decision.verdict != Verdict::kRestart) {
        return finish(decision);
      }
      const std::string when =
          decision.delay.count() == 0 ? "now" : "in " + format_duration(decision.delay);
      say(fmt::format("restart {} of at most {} {}, from {}", policy_.restarts(),
                      arguments_.max_restarts, when, origin_));
      if (signals.stopped_within(decision.delay)) {
        return finish({.verdict = Verdict::kGiveUp,
                       .exit_code = static_cast<int>(ExitCode::kStoppedResumable),
                       .reason = "stopped as asked"});
      }
      ++attempt_;
    }
  }

 private:
  // A restart continues what it finds, so that a run of somebody else must not be there at first.
  void require_own_run() const {
    if (!arguments_.train.resume && run_on_disk()) {
      throw InvalidArgument(kLaunch, fmt::format("--out {} holds a run. To continue it:\n  {}",
                                                 run_.root().string(), resume_command()));
    }
  }

  // The ranks say more about one that is late than can be seen from outside: they should come
  // first.
  void compare_deadlines() const {
    if (arguments_.hang_seconds <= 0.0) {
      return;
    }
    try {
      const double deadline = parse_arguments(arguments_.train).config.bsp.sync_deadline_seconds;
      if (deadline >= arguments_.hang_seconds) {
        say(
            fmt::format("--hang {} is not above bsp.sync_deadline_seconds = {}: a rank that hangs "
                        "ends the job before the others name it with its call and stack",
                        arguments_.hang_seconds, deadline));
      }
    } catch (const Error&) {
      // The ranks say what is wrong with the configuration.
    }
  }

  bool run_on_disk() const {
    std::error_code error;
    return fs::exists(run_.config(), error);
  }

  // Where all hosts meet, unless the user says so.
  void add_network(std::vector<std::string>& words) const {
    std::vector<std::string> names;
    for (const Host& host : hosts_.hosts()) {
      names.push_back(host.name);
    }
    const std::optional<std::vector<std::uint32_t>> addresses = addresses_of(names);
    if (!addresses) {
      return;
    }
    if (const std::optional<Network> network = common_network(*addresses, local_networks())) {
      for (const char* name : {"btl_tcp_if_include", "oob_tcp_if_include"}) {
        words.insert(words.end(), {"--mca", name, network->to_text()});
      }
    }
  }

  std::vector<std::string> command() const {
    std::vector<std::string> words = {arguments_.mpirun, "--report-uri", "+"};
    const auto is_given = [&](std::string_view name) {
      return std::find(arguments_.mpirun_options.begin(), arguments_.mpirun_options.end(), name) !=
             arguments_.mpirun_options.end();
    };
    for (const auto& [name, value] : kParameters) {
      if (!is_given(name)) {
        words.insert(words.end(), {"--mca", name, value});
      }
    }
    const bool names_interfaces = is_given("btl_tcp_if_include") ||
                                  is_given("oob_tcp_if_include") ||
                                  is_given("btl_tcp_if_exclude") || is_given("oob_tcp_if_exclude");
    if (!names_interfaces) {
      add_network(words);
    }
    for (const std::string& word : hosts_.options(hostfile_of(::getpid(), attempt_))) {
      words.push_back(word);
    }
    words.insert(words.end(),
                 {"-x", fmt::format("{}={}", kLaunchIdVariable, id_), "-x",
                  fmt::format("{}={}", kLaunchAttemptVariable, attempt_), program_.string()});
    words.insert(words.end(), arguments_.train_words.begin(), arguments_.train_words.end());
    if (arguments_.train.out.empty()) {
      words.insert(words.end(), {"--out", run_.root().string()});
    }
    if (attempt_ > 0 && !arguments_.train.resume && run_on_disk()) {
      words.emplace_back("--resume");
    }
    return words;
  }

  // The superstep of the newest valid one; -1: none. A file system that fails for a moment counts
  // as one without.
  std::int64_t find_newest_checkpoint() {
    try {
      const std::optional<fs::path> newest = paramserver::newest_checkpoint(run_.checkpoints());
      origin_ = newest ? newest->filename().string() : "the start";
      return newest ? paramserver::CheckpointReader(*newest).manifest().position.superstep : -1;
    } catch (const std::exception& error) {
      origin_ = "the newest checkpoint that the ranks can read";
      say(fmt::format("the checkpoints cannot be read: {}", error.what()));
      return -1;
    }
  }

  Decision attempt(SignalInbox& signals) {
    const Stopwatch duration;
    const std::string began = utc_iso8601();
    const ProcessLimits limits{.grace = milliseconds_of(arguments_.grace_seconds)};
    if (attempt_ > 0 || arguments_.train.resume) {
      remove_records(run_.launch_records());
    }
    HangWatch watch(run_.launch_records(), milliseconds_of(arguments_.hang_seconds));
    bool said_blind = false;
    std::optional<WatchedRank> culprit;
    const ProcessEnd end =
        run_mpirun(command(), signals, caretaker_, limits, [&]() -> std::optional<std::string> {
          culprit = arguments_.hang_seconds > 0.0 ? watch.look() : std::nullopt;
          if (watch.waits() > kPatienceWithFiles && !std::exchange(said_blind, true)) {
            say("the run directory does not answer: whether the ranks move cannot be seen");
          }
          return culprit ? std::optional(culprit->to_text()) : std::nullopt;
        });
    remove_hostfiles(::getpid());
    const std::vector<std::string> removed = remove_leftovers(end.diagnosis.daemon_job(), end.pid);
    caretaker_.forget();
    const JointOutcome outcome =
        read_outcomes(run_.launch_records(), {.id = id_, .attempt = attempt_});
    const AttemptResult result{.exit_code = end.exit_code,
                               .ranks = outcome.verdict,
                               .stop_requested = end.stop_requested,
                               .hung = end.hung,
                               .run_on_disk = run_on_disk(),
                               .checkpoint_superstep = find_newest_checkpoint()};
    Decision decision = policy_.after(result);
    if (decision.verdict == Verdict::kRestart) {
      blame(end.hung && culprit     ? culprit->host
            : end.diagnosis.named() ? end.diagnosis.named()->host
                                    : "");
    }
    report(end, outcome, decision, removed, duration);
    record(began, end, outcome, result, decision);
    return decision;
  }

  void blame(const std::string& named) {
    if (named.empty() || hosts_.hosts().empty()) {
      return;
    }
    const std::optional<std::string> host = hosts_.find(
        named, read_addresses(run_.launch_records(), {.id = id_, .attempt = attempt_}, named));
    if (!host) {
      say(fmt::format("{} was named, but is none of the hosts and cannot be left out", named));
    } else if (hosts_.blame(*host)) {
      const std::optional<int> processes = hosts_.num_processes();
      say(fmt::format("{} was named twice and is left out; hosts left: {}{}", *host,
                      hosts_.hosts().size(),
                      processes ? fmt::format(", processes: {}", *processes) : ""));
    }
  }

  void report(const ProcessEnd& end, const JointOutcome& outcome, const Decision& decision,
              const std::vector<std::string>& removed, const Stopwatch& watch) const {
    say(fmt::format("attempt {} ended after {}: {}", attempt_ + 1, format_duration(watch.elapsed()),
                    decision.reason));
    if (end.diagnosis.named()) {
      say(end.diagnosis.named()->what);
    }
    if (end.exit_code == 0 || outcome.verdict != RankVerdict::kIncomplete) {
      say(outcome.what);
    }
    if (end.orphans > 0 || !removed.empty()) {
      say(fmt::format("cleaned up: {} processes, {} leftovers in memory and temporary files",
                      end.orphans, removed.size()));
    }
  }

  // One line per attempt in the run directory, when there is one.
  void record(const std::string& began, const ProcessEnd& end, const JointOutcome& outcome,
              const AttemptResult& result, const Decision& decision) const {
    if (!result.run_on_disk) {
      return;
    }
    const std::optional<NamedCulprit>& named = end.diagnosis.named();
    const Json line = {
        {"launch", id_},
        {"attempt", attempt_},
        {"began", began},
        {"ended", utc_iso8601()},
        {"mpi_job", end.diagnosis.daemon_job() ? Json(*end.diagnosis.daemon_job() + 1) : Json()},
        {"mpirun_exit_code", end.exit_code},
        {"stop_requested", end.stop_requested},
        {"ranks", outcome.what},
        {"named_rank", named && named->rank >= 0 ? Json(named->rank) : Json()},
        {"named_host", named ? Json(named->host) : Json()},
        {"checkpoint_superstep", result.checkpoint_superstep},
        {"decision", decision.verdict == Verdict::kRestart ? "restart"
                     : decision.verdict == Verdict::kDone  ? "done"
                                                           : "give up"},
        {"reason", decision.reason}};
    std::ofstream file(run_.launch_log(), std::ios::app);
    file << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
    if (!file.flush()) {
      say(fmt::format("cannot write {}", run_.launch_log().string()));
    }
  }

  int finish(const Decision& decision) const {
    if (decision.verdict == Verdict::kDone) {
      say(fmt::format("complete after {} restarts: {}", policy_.restarts(), decision.reason));
      return 0;
    }
    say(fmt::format("gave up with exit code {}: {}", decision.exit_code, decision.reason));
    if (run_on_disk()) {
      say(fmt::format("to continue:\n  {}", resume_command()));
    }
    return decision.exit_code;
  }

  std::string resume_command() const {
    std::string text = command_line_;
    if (arguments_.train.out.empty()) {
      text += " --out " + run_.root().string();
    }
    return arguments_.train.resume ? text : text + " --resume";
  }

  const LaunchArguments arguments_;
  const std::string command_line_;
  const std::string id_;
  fs::path program_;
  HostPlan hosts_;
  RestartPolicy policy_;
  RunDirectory run_;
  Caretaker caretaker_;
  std::int64_t attempt_ = 0;
  std::string origin_;  // of the next attempt, for people
};

}  // namespace

Work prepare_launch(const bsp::Environment& environment, const LaunchArguments& arguments,
                    const std::string& command_line) {
  if (environment.under_mpirun()) {
    throw InvalidArgument(kLaunch, "it starts mpirun itself: run it without mpirun");
  }
  require_known_launcher(environment);
  auto launch = std::make_shared<Launcher>(arguments, command_line);
  return [launch] { return launch->run(); };
}

}  // namespace superstep::cluster
