#include "cluster/launch_policy.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::cluster {

namespace {

constexpr int kMostRestartsWithoutProgress = 2;
// Of mpirun itself.
constexpr int kTimedOut = 110;
constexpr int kLostDaemon = 205;

constexpr int code(ExitCode exit_code) {
  return static_cast<int>(exit_code);
}

// Of something that was read: once it was as it must be, it is so again, or soon. A directory that
// a dying process still holds, a file system that is away for a moment.
bool may_pass(int exit_code) {
  return exit_code == code(ExitCode::kUsage) || exit_code == code(ExitCode::kBadData) ||
         exit_code == code(ExitCode::kBadCheckpoint);
}

// Ends that the next attempt would come to as well.
bool would_come_back(int exit_code) {
  return may_pass(exit_code) || exit_code == code(ExitCode::kRanksDisagree) ||
         exit_code == code(ExitCode::kNumbers);
}

Decision give_up(int exit_code, std::string reason) {
  return {.verdict = Verdict::kGiveUp, .exit_code = exit_code, .reason = std::move(reason)};
}

// Zero is no exit code for a job that did not complete.
int failure_code(const AttemptResult& result) {
  return result.exit_code == 0 ? code(ExitCode::kFailure) : result.exit_code;
}

std::string explain_end(const AttemptResult& result) {
  if (result.exit_code != 0) {
    return explain_exit_code(result.exit_code);
  }
  return result.ranks == RankVerdict::kDisagree
             ? "mpirun returned 0, but the ranks recorded different results"
             : "mpirun returned 0, but not every rank recorded that it is complete";
}

// A stop was asked for, and something else may have come first.
Decision after_unrecorded_stop(const AttemptResult& result) {
  const std::string end = explain_end(result);
  if (would_come_back(result.exit_code) || result.exit_code == code(ExitCode::kCorruption)) {
    return give_up(result.exit_code, fmt::format("{}, when a stop had been asked for", end));
  }
  const std::string last =
      result.checkpoint_superstep < 0
          ? "there is no checkpoint"
          : fmt::format("the last checkpoint is that of superstep {}", result.checkpoint_superstep);
  return give_up(
      code(ExitCode::kStoppedResumable),
      fmt::format("stopped as asked, but not every rank recorded a stop of its own ({}): "
                  "{}",
                  end, last));
}

}  // namespace

Decision RestartPolicy::after(const AttemptResult& result) {
  const bool first = attempts_++ == 0;
  if (result.exit_code == 0 && result.ranks == RankVerdict::kFinished) {
    return {.verdict = Verdict::kDone,
            .exit_code = code(ExitCode::kDone),
            .reason = "every rank is complete, with the same hash"};
  }
  // Ranks that moved again when a hanging job was ended stop in order: nobody asked for that.
  if (result.ranks == RankVerdict::kStopped && !result.hung) {
    return give_up(code(ExitCode::kStoppedResumable), "stopped as asked");
  }
  if (result.ranks == RankVerdict::kDisagree) {
    return give_up(code(ExitCode::kRanksDisagree), "the ranks recorded different results");
  }
  if (result.stop_requested) {
    return after_unrecorded_stop(result);
  }
  const bool has_worked = !first || result.checkpoint_superstep > newest_checkpoint_;
  if (would_come_back(result.exit_code) && !(has_worked && may_pass(result.exit_code))) {
    return give_up(result.exit_code, fmt::format("{}: it would end the same way again",
                                                 explain_exit_code(result.exit_code)));
  }
  if (first && !result.run_on_disk && result.exit_code == code(ExitCode::kFailure)) {
    return give_up(result.exit_code, "mpirun did not start the job");
  }
  return restart_unless_hopeless(result);
}

Decision RestartPolicy::restart_unless_hopeless(const AttemptResult& result) {
  const bool progress = result.checkpoint_superstep > newest_checkpoint_;
  newest_checkpoint_ = std::max(newest_checkpoint_, result.checkpoint_superstep);
  if (restarts_ > 0) {
    restarts_without_progress_ = progress ? 0 : restarts_without_progress_ + 1;
  }
  const std::string end = explain_end(result);
  if (restarts_without_progress_ >= kMostRestartsWithoutProgress) {
    return give_up(failure_code(result),
                   fmt::format("{}; {} restarts left no newer checkpoint than superstep {}", end,
                               restarts_without_progress_, newest_checkpoint_));
  }
  if (restarts_ >= options_.max_restarts) {
    return give_up(failure_code(result), fmt::format("{}; it was restarted {} times, as often as "
                                                     "--restarts allows",
                                                     end, restarts_));
  }
  ++restarts_;
  Decision decision{.verdict = Verdict::kRestart, .exit_code = 0, .reason = end};
  if (restarts_without_progress_ > 0) {
    decision.delay = std::min(options_.max_delay, options_.first_delay);
    for (int i = 1; i < restarts_without_progress_; ++i) {
      decision.delay = std::min(options_.max_delay, 2 * decision.delay);
    }
  }
  return decision;
}

std::string explain_exit_code(int exit_code) {
  switch (exit_code) {
    case code(ExitCode::kFailure):
      return "exit code 1: a failure (transport, storage, or a bug); the message is above";
    case code(ExitCode::kUsage):
      return "exit code 2: usage or configuration";
    case code(ExitCode::kBadData):
      return "exit code 3: bad data";
    case code(ExitCode::kBadCheckpoint):
      return "exit code 4: bad checkpoint";
    case code(ExitCode::kRanksDisagree):
      return "exit code 5: the ranks disagree";
    case code(ExitCode::kNumbers):
      return "exit code 6: numbers that are not finite";
    case code(ExitCode::kCorruption):
      return "exit code 7: bytes changed where nobody wrote, or a gradient was computed wrong";
    case code(ExitCode::kStoppedResumable):
      return "exit code 75: a stop, or ranks that did not arrive in time; the message is above";
    case kTimedOut:
      return "exit code 110: mpirun's own --timeout passed";
    case kLostDaemon:
      return "exit code 205: mpirun lost a node";
    default:
      break;
  }
  if (exit_code > kSignalBase && exit_code < kSignalBase + 65) {
    const int signal = exit_code - kSignalBase;
    const char* description = ::sigdescr_np(signal);
    return fmt::format("exit code {}: a process was ended by signal {} ({})", exit_code, signal,
                       description == nullptr ? "unknown" : description);
  }
  return fmt::format("exit code {}", exit_code);
}

}  // namespace superstep::cluster
