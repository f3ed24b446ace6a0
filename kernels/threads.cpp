#include "kernels/threads.h"

#include <mutex>

#include <Eigen/Core>
#include <fmt/format.h>
#ifdef SUPERSTEP_HAVE_ONEDNN
#include <omp.h>
#endif

#include "base/error.h"
#include "base/signal_stack.h"

namespace superstep::kernels {
namespace {

constexpr int kMaxTeam = 1024;

// Typical of servers of the last ten years. What matters is that every machine uses the same
// values.
constexpr std::ptrdiff_t kL1Bytes = 32 * 1024;
constexpr std::ptrdiff_t kL2Bytes = 1024 * 1024;
constexpr std::ptrdiff_t kL3Bytes = 16 * 1024 * 1024;

int& team_of_this_thread() {
  thread_local int threads = 1;
  return threads;
}

}  // namespace

void set_team_size(int threads) {
  if (threads < 1 || threads > kMaxTeam) {
    throw InvalidArgument(
        "set_team_size",
        fmt::format("number of threads: got {}, expected 1 to {}", threads, kMaxTeam));
  }
  ensure_signal_stack();
  team_of_this_thread() = threads;
  pin_eigen_blocking();
#ifdef SUPERSTEP_HAVE_ONEDNN
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
#endif
}

int team_size() {
  return team_of_this_thread();
}

void pin_eigen_blocking() {
  static std::once_flag once;
  std::call_once(once, [] { Eigen::setCpuCacheSizes(kL1Bytes, kL2Bytes, kL3Bytes); });
}

#ifdef SUPERSTEP_HAVE_ONEDNN
TeamScope::TeamScope(int threads) {
  ensure_signal_stack();
  const int current = omp_get_max_threads();
  if (current != threads) {
    previous_ = current;
    omp_set_num_threads(threads);
  }
}

TeamScope::~TeamScope() {
  if (previous_ != 0) {
    omp_set_num_threads(previous_);
  }
}
#else
TeamScope::TeamScope(int /*threads*/) {}
TeamScope::~TeamScope() = default;
#endif

}  // namespace superstep::kernels
