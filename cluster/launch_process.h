// One mpirun as a child: started, listened to, asked to stop, ended for certain.
//
// - mpirun has a process group of its own, so that Ctrl-C reaches the launcher alone, and gets
//   SIGTERM when the launcher dies however it dies; the caretaker sees to the rest.
// - SIGTERM, SIGINT, SIGHUP and SIGUSR1 to the launcher become SIGUSR1 to mpirun, which passes it
//   to all ranks at once: they write a checkpoint at the same superstep and end. (On SIGTERM mpirun
//   would leave them one second.) It is sent again every second, since mpirun loses it while it
//   starts. When that takes longer than `grace`, or a second signal comes, everything is killed.
// - Processes that mpirun leaves behind become children of the launcher and are killed; also when
//   mpirun itself hangs after it has reported a failure.
//
// One SignalInbox must exist before, which takes the signals out of their usual way; threads that
// exist must have them blocked.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "cluster/launch_caretaker.h"
#include "cluster/launch_diagnosis.h"
#include "cluster/signal_inbox.h"

namespace superstep::cluster {

struct ProcessLimits {
  std::chrono::milliseconds grace{30'000};  // from the stop signal to the end of all ranks
  // What mpirun may take to end after it reported a failure, or was told to end.
  std::chrono::milliseconds kill_after{8'000};
};

struct ProcessEnd {
  int exit_code = 0;  // 128 + n when signal n ended mpirun
  pid_t pid = -1;     // of mpirun
  bool stop_requested = false;
  bool killed = false;  // by the launcher
  bool hung = false;    // by what the HangCheck said
  int orphans = 0;      // processes that had to be killed after mpirun's end
  Diagnosis diagnosis;
};

// Called about once a second while mpirun runs: a text ends the job, which hangs. The ranks' stacks
// go to standard error before (SIGUSR2).
using HangCheck = std::function<std::optional<std::string>()>;

// Runs to the end. `command[0]` is looked up in PATH. Throws InvalidArgument when it cannot be
// started.
ProcessEnd run_mpirun(const std::vector<std::string>& command, SignalInbox& signals,
                      Caretaker& caretaker, const ProcessLimits& limits, const HangCheck& hangs);

}  // namespace superstep::cluster
