#include "base/error.h"

#include <string>

#include <fmt/format.h>

namespace superstep {

namespace {

std::string locate(std::string_view path, std::int64_t offset, std::string_view what) {
  if (offset < 0) {
    return fmt::format("{}: {}", path, what);
  }
  return fmt::format("{}, byte {}: {}", path, offset, what);
}

}  // namespace

Error::Error(std::string_view where, std::string_view what, ExitCode exit_code)
    : std::runtime_error(fmt::format("[{}] {}", where, what)), exit_code_(exit_code) {}

InvalidArgument::InvalidArgument(std::string_view where, std::string_view what)
    : Error(where, what, ExitCode::kUsage) {}

CommunicationError::CommunicationError(std::string_view where, std::string_view what,
                                       ExitCode exit_code)
    : Error(where, what, exit_code) {}

DataError::DataError(std::string_view where, std::string_view path, std::int64_t offset,
                     std::string_view what, ExitCode exit_code)
    : Error(where, locate(path, offset, what), exit_code), path_(path), offset_(offset) {}

}  // namespace superstep
