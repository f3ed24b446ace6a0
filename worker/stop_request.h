// How a signal handler asks for the end of training.
//
// A request is seen by every Trainer of the process after the superstep in work; it travels with
// the gradients' sync, so that all ranks stop at the same superstep, with a checkpoint.
#pragma once

namespace superstep::worker {

// Async-signal-safe.
void request_stop() noexcept;
bool stop_requested() noexcept;
// For programs that train again after a stop, and for tests.
void clear_stop_request() noexcept;

}  // namespace superstep::worker
