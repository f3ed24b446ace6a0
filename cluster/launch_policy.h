// What `superstep launch` does after an attempt: be done, start again, or give up.
//
// Pure decisions, so that they can be tested without a job. An attempt is one mpirun.
//
//   RestartPolicy policy({.max_restarts = 100});
//   Decision decision = policy.after(result);
//   if (decision.verdict == Verdict::kRestart) wait(decision.delay);
//
// - Done: mpirun returned 0 and every rank recorded that it is complete, with the same hash. A zero
//   alone is not believed.
// - Given up: a run that stopped because it was asked to (75, or 2 to 7 when that came first); an
//   error that would come back, such as a wrong configuration (2 to 6, see docs/errors.md; 2 to 4
//   only before an attempt has shown that configuration, data and checkpoint can be read); a first
//   attempt that never started a run; more than max_restarts; or two restarts one after the other
//   that left no newer checkpoint than was there before.
// - Started again: everything else. The first restart comes at once; while there is no progress the
//   delay doubles up to max_delay.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace superstep::cluster {

// Exit code of a process that signal n ended: kSignalBase + n.
inline constexpr int kSignalBase = 128;

// What the ranks of an attempt recorded about its end (cluster/launch_record.h).
enum class RankVerdict : std::uint8_t {
  kIncomplete,  // some rank recorded nothing
  kFinished,    // the training is over, all ranks have the same hash
  kStopped,     // all ranks stopped at a superstep because they were asked to
  kDisagree,    // all ranks recorded their end, and differ
};

struct AttemptResult {
  int exit_code = 0;  // of mpirun; 128 + n when signal n ended mpirun itself
  RankVerdict ranks = RankVerdict::kIncomplete;
  bool stop_requested = false;             // the launcher passed a stop signal on
  bool hung = false;                       // the launcher ended it, since no rank moved
  bool run_on_disk = false;                // a run directory that can be resumed
  std::int64_t checkpoint_superstep = -1;  // newest valid checkpoint; -1: none
};

enum class Verdict : std::uint8_t { kDone, kRestart, kGiveUp };

struct Decision {
  Verdict verdict = Verdict::kGiveUp;
  int exit_code = 0;   // of the launcher; unless kRestart
  std::string reason;  // one line for people
  std::chrono::milliseconds delay{0};
};

struct RestartOptions {
  int max_restarts = 100;
  std::chrono::milliseconds first_delay{1000};
  std::chrono::milliseconds max_delay{30'000};
};

class RestartPolicy {
 public:
  explicit RestartPolicy(RestartOptions options) : options_(options) {}

  // Before the first attempt, of a run that is continued: its newest valid checkpoint; -1: none.
  void continue_from(std::int64_t checkpoint_superstep) {
    newest_checkpoint_ = checkpoint_superstep;
  }
  // After every attempt, in order.
  Decision after(const AttemptResult& result);
  int restarts() const { return restarts_; }

 private:
  Decision restart_unless_hopeless(const AttemptResult& result);

  RestartOptions options_;
  int attempts_ = 0;
  int restarts_ = 0;
  int restarts_without_progress_ = 0;
  std::int64_t newest_checkpoint_ = -1;
};

// What mpirun's exit code means, in one line without a full stop.
std::string explain_exit_code(int exit_code);

}  // namespace superstep::cluster
