// Checks at two levels. SUPERSTEP_CHECK always runs and throws CheckFailure: a broken invariant is
// a bug of this program, never of its user. SUPERSTEP_DEBUG_CHECK vanishes in release builds.
// ("The same on all ranks" needs communication and lives in bsp/world.h: World::require_same.)
//
//   SUPERSTEP_CHECK(begin <= end, "shard range", begin, end);
#pragma once

#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace superstep {

class CheckFailure : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace internal {
[[noreturn]] void fail_check(const char* file, int line, const char* condition,
                             const std::string& detail);

inline std::string join_detail() {
  return {};
}
template <typename First, typename... Rest>
std::string join_detail(const First& first, const Rest&... rest) {
  std::string text = fmt::format("{}", first);
  ((text += fmt::format(" {}", rest)), ...);
  return text;
}
}  // namespace internal

}  // namespace superstep

#define SUPERSTEP_CHECK(condition, ...)                                                   \
  do {                                                                                    \
    if (!(condition)) [[unlikely]] {                                                      \
      ::superstep::internal::fail_check(__FILE__, __LINE__, #condition,                   \
                                        ::superstep::internal::join_detail(__VA_ARGS__)); \
    }                                                                                     \
  } while (false)

#ifdef NDEBUG
#define SUPERSTEP_DEBUG_CHECK(condition, ...) \
  do {                                        \
  } while (false)
#else
#define SUPERSTEP_DEBUG_CHECK(condition, ...) SUPERSTEP_CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif
