// What one superstep of one rank was made of: w, h and l of the cost w + h*g + l, measured.
#pragma once

#include <cstdint>

namespace superstep::bsp {

// Seconds of this rank; the parts and `other` sum to `total`.
struct SuperstepRecord {
  std::uint64_t superstep = 0;
  double total_seconds = 0.0;
  double compute_seconds = 0.0;     // w: forward and backward of this rank's slots
  double input_wait_seconds = 0.0;  // waiting for the pipeline
  double exchange_seconds = 0.0;    // reduce, clip, update, publish
  double sync_wait_seconds = 0.0;   // waiting in sync() for the others, and l
  double check_seconds = 0.0;       // computing gradients of others again, to compare them
  // Since the superstep before: what training waited for its checkpoints. Not part of the total.
  double checkpoint_seconds = 0.0;
  std::uint64_t bytes_sent = 0;  // h between nodes
  std::uint64_t bytes_received = 0;

  double other_seconds() const {
    return total_seconds - compute_seconds - input_wait_seconds - exchange_seconds -
           sync_wait_seconds - check_seconds;
  }
};

}  // namespace superstep::bsp
