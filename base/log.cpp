#include "base/log.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "base/error.h"
#include "base/text.h"

namespace superstep {

spdlog::level::level_enum parse_log_level(std::string_view name) {
  static constexpr std::pair<std::string_view, spdlog::level::level_enum> kLevels[] = {
      {"trace", spdlog::level::trace}, {"debug", spdlog::level::debug},
      {"info", spdlog::level::info},   {"warn", spdlog::level::warn},
      {"error", spdlog::level::err},   {"off", spdlog::level::off},
  };
  std::vector<std::string> names;
  for (const auto& [level_name, level] : kLevels) {
    if (level_name == name) {
      return level;
    }
    names.emplace_back(level_name);
  }
  throw InvalidArgument("parse_log_level",
                        fmt::format("unknown log level: got \"{}\", expected one of {}{}", name,
                                    join(names), did_you_mean(name, names)));
}

Logger make_logger(int rank, spdlog::level::level_enum level, spdlog::sink_ptr sink) {
  auto logger = std::make_shared<spdlog::logger>(fmt::format("rank {}", rank), std::move(sink));
  logger->set_pattern("%H:%M:%S.%e %l [%n] %v");
  logger->set_level(level);
  // A rank that dies takes its buffered lines with it, and those are the ones that explain it.
  logger->flush_on(spdlog::level::warn);
  return logger;
}

Logger make_logger(int rank, spdlog::level::level_enum level) {
  return make_logger(rank, level, std::make_shared<spdlog::sinks::stderr_sink_mt>());
}

Logger make_logger(int rank, std::string_view level_name) {
  return make_logger(rank, parse_log_level(level_name));
}

}  // namespace superstep
