#include "worker/stop_request.h"

#include <atomic>

namespace superstep::worker {

namespace {

static_assert(std::atomic<bool>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");
// A signal belongs to the process, so its flag does too.
std::atomic<bool> stop_flag{false};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

}  // namespace

void request_stop() noexcept {
  stop_flag.store(true);
}

bool stop_requested() noexcept {
  return stop_flag.load();
}

void clear_stop_request() noexcept {
  stop_flag.store(false);
}

}  // namespace superstep::worker
