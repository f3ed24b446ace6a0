// A call on a thread of its own that nobody has to wait for: on a file system that hangs it may
// never return. What it captures must outlive it, or be its own. Signals are left to other threads.
//
//   std::future<std::string> text = call_detached([path] { return read(path); });
//   if (text.wait_for(limit) == std::future_status::ready) ... text.get() ...
#pragma once

#include <csignal>
#include <exception>
#include <future>
#include <thread>
#include <type_traits>
#include <utility>

namespace superstep {

// get() throws what the call threw. Throws std::system_error when there can be no more threads.
template <typename Call>
std::future<std::invoke_result_t<Call&>> call_detached(Call call) {
  std::promise<std::invoke_result_t<Call&>> promise;
  std::future<std::invoke_result_t<Call&>> future = promise.get_future();
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  try {
    std::thread([promise = std::move(promise), call = std::move(call)]() mutable {
      try {
        promise.set_value(call());
      } catch (...) {
        promise.set_exception(std::current_exception());
      }
    }).detach();
  } catch (...) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return future;
}

}  // namespace superstep
