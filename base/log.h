// Loggers that say which rank speaks.
//
// A logger is a value that is passed on, not a global: nothing is registered with spdlog. Lines go
// to standard error as `12:30:01.250 info [rank 3] text`. Loggers may be used from any thread, and
// lines of several loggers of a process never mix within a line.
//
//   auto log = make_logger(world.rank(), parse_log_level("info"));
//   log->info("epoch {} done", epoch);
#pragma once

#include <memory>
#include <string_view>

#include <spdlog/logger.h>

namespace superstep {

using Logger = std::shared_ptr<spdlog::logger>;

// trace, debug, info, warn, error or off; anything else throws InvalidArgument with the nearest
// name.
spdlog::level::level_enum parse_log_level(std::string_view name);

Logger make_logger(int rank, spdlog::level::level_enum level = spdlog::level::info);
Logger make_logger(int rank, std::string_view level_name);
// The same lines into a sink of the caller's: a file, or a string stream in a test.
Logger make_logger(int rank, spdlog::level::level_enum level, spdlog::sink_ptr sink);

}  // namespace superstep
