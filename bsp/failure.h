// The one fact that all lanes of a process share when something goes wrong: which rank failed
// first.
//
// Every wait looks at it, so that no lane waits for a lane that will never come. Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace superstep::bsp::internal {

// What a lane throws when it is released from a wait because another lane failed. The failing lane
// reports its own error; this one is not reported again.
class PeerFailure : public CommunicationError {
 public:
  using CommunicationError::CommunicationError;
};

// Calls that differ between ranks. Thrown by every rank, so that nobody has to be released.
class CallMismatch : public CommunicationError {
 public:
  CallMismatch(std::string_view where, std::string_view what);
};

// Two ranks that disagree about a message's length: seen by the receiver alone. No `got_bytes`:
// more than expected.
class MessageMismatch : public CommunicationError {
 public:
  MessageMismatch(std::string_view where, int rank, int peer, std::optional<std::size_t> got_bytes,
                  std::size_t expected_bytes);
};

class Failure {
 public:
  // Records the first failure of the process; later ones are ignored and get false.
  bool raise(int rank, const std::string& what, ExitCode exit_code);

  bool raised() const { return raised_.load(std::memory_order_acquire); }
  ExitCode exit_code() const;
  // Only after raised().
  [[noreturn]] void throw_peer_failure() const;

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> raised_{false};
  int rank_ = -1;
  std::string what_;
  ExitCode exit_code_ = ExitCode::kDone;
};

}  // namespace superstep::bsp::internal
