// The signals to `superstep launch`, one by one and in no handler.
#pragma once

#include <array>
#include <chrono>
#include <csignal>
#include <optional>

#include "base/file_descriptor.h"

namespace superstep::cluster {

// That ask for an end with a checkpoint.
inline constexpr std::array kStopSignals = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
bool is_stop(int signal);
// SIGCHLD and the stop signals but for those that the program inherited as ignored (nohup, a
// background job): blocked, they would be handed out all the same.
sigset_t inbox_signals();

// Blocks the launcher's signals and hands them out one by one; the former mask comes back with its
// destruction. SIGCHLD gets its default: ignored, the ends of children would not be told.
class SignalInbox {
 public:
  SignalInbox();
  SignalInbox(const SignalInbox&) = delete;
  SignalInbox& operator=(const SignalInbox&) = delete;
  ~SignalInbox();

  int descriptor() const { return file_.get(); }
  std::optional<int> next();  // the number of a signal that has come
  // Waits for at most `duration`; true when a stop signal came.
  bool stopped_within(std::chrono::milliseconds duration);

 private:
  internal::FileDescriptor file_;
};

}  // namespace superstep::cluster
