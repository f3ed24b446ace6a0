#include "base/signal_stack.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <system_error>
#include <vector>

#include <unistd.h>

namespace superstep {

namespace {

// A handler of ours needs little; the frame itself holds all vector registers (11 KiB with AMX).
constexpr long kLeastBytes = 64 * 1024;

class SignalStack {
 public:
  SignalStack() {
    stack_t current{};
    if (sigaltstack(nullptr, &current) != 0) {
      throw std::system_error(errno, std::generic_category(), "sigaltstack");
    }
    if ((current.ss_flags & SS_DISABLE) == 0) {
      return;
    }
    memory_.resize(static_cast<std::size_t>(std::max(kLeastBytes, sysconf(_SC_SIGSTKSZ))));
    stack_t mine{};
    mine.ss_sp = memory_.data();
    mine.ss_size = memory_.size();
    if (sigaltstack(&mine, nullptr) != 0) {
      throw std::system_error(errno, std::generic_category(), "sigaltstack");
    }
  }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;
  ~SignalStack() {
    stack_t current{};
    if (!memory_.empty() && sigaltstack(nullptr, &current) == 0 &&
        current.ss_sp == memory_.data()) {
      stack_t none{};
      none.ss_flags = SS_DISABLE;
      sigaltstack(&none, nullptr);
    }
  }

 private:
  std::vector<std::byte> memory_;
};

}  // namespace

void ensure_signal_stack() {
  static thread_local const SignalStack stack;
}

}  // namespace superstep
