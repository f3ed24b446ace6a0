#include "bsp/failure.h"

#include <fmt/format.h>

namespace superstep::bsp::internal {

CallMismatch::CallMismatch(std::string_view where, std::string_view what)
    : CommunicationError(where, what, ExitCode::kRanksDisagree) {}

MessageMismatch::MessageMismatch(std::string_view where, int rank, int peer,
                                 std::optional<std::size_t> got_bytes, std::size_t expected_bytes)
    : CommunicationError(
          where,
          fmt::format("rank {} and rank {} disagree about a message: got {} bytes, expected {}",
                      rank, peer, got_bytes ? fmt::to_string(*got_bytes) : "more", expected_bytes),
          ExitCode::kRanksDisagree) {}

bool Failure::raise(int rank, const std::string& what, ExitCode exit_code) {
  const std::lock_guard lock(mutex_);
  if (raised_.load(std::memory_order_relaxed)) {
    return false;
  }
  rank_ = rank;
  what_ = what;
  exit_code_ = exit_code;
  raised_.store(true, std::memory_order_release);
  return true;
}

ExitCode Failure::exit_code() const {
  const std::lock_guard lock(mutex_);
  return exit_code_;
}

void Failure::throw_peer_failure() const {
  const std::lock_guard lock(mutex_);
  throw PeerFailure("World", fmt::format("rank {} failed: {}", rank_, what_), exit_code_);
}

}  // namespace superstep::bsp::internal
