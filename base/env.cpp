#include "base/env.h"

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep {

std::optional<std::string> environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): see the header
  if (value == nullptr) {
    return std::nullopt;
  }
  return std::string(value);
}

std::optional<std::int64_t> environment_integer(const std::string& name) {
  const std::optional<std::string> text = environment_variable(name);
  if (!text) {
    return std::nullopt;
  }
  std::int64_t number = 0;
  const char* end = text->data() + text->size();
  const auto [stop, status] = std::from_chars(text->data(), end, number);
  if (status != std::errc() || stop != end) {
    throw InvalidArgument("environment_integer", fmt::format("environment variable {}: got \"{}\", "
                                                             "expected a 64-bit decimal integer",
                                                             name, *text));
  }
  return number;
}

void set_environment(const std::string& name, const std::string& value) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): see the header
  if (setenv(name.c_str(), value.c_str(), 1) != 0) {
    throw InvalidArgument("set_environment",
                          fmt::format("impossible variable name: got \"{}\"", name));
  }
}

void unset_environment(const std::string& name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): see the header
  if (unsetenv(name.c_str()) != 0) {
    throw InvalidArgument("unset_environment",
                          fmt::format("impossible variable name: got \"{}\"", name));
  }
}

}  // namespace superstep
