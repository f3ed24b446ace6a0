#include "base/check.h"

#include <string>

#include <fmt/format.h>

namespace superstep::internal {

void fail_check(const char* file, int line, const char* condition, const std::string& detail) {
  if (detail.empty()) {
    throw CheckFailure(fmt::format("[{}:{}] check failed: {}", file, line, condition));
  }
  throw CheckFailure(fmt::format("[{}:{}] check failed: {}: {}", file, line, condition, detail));
}

}  // namespace superstep::internal
