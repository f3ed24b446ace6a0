#include "cluster/config_text.h"

#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace superstep::cluster {

namespace {

template <typename T>
std::string list_text(const std::vector<T>& values) {
  std::vector<std::string> parts;
  parts.reserve(values.size());
  for (const T& value : values) {
    parts.push_back(toml_text(value));
  }
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

std::string escaped(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\t':
      return "\\t";
    case '\r':
      return "\\r";
    default:
      break;
  }
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f ? fmt::format("\\u{:04X}", byte) : std::string(1, c);
}

}  // namespace

std::string toml_text(std::int64_t value) {
  return fmt::format("{}", value);
}

std::string toml_text(double value) {
  std::string text = fmt::format("{}", value);
  // "1" would read back as an integer; inf, nan and exponents are floats already.
  if (text.find_first_not_of("-0123456789") == std::string::npos) {
    text += ".0";
  }
  return text;
}

std::string toml_text(bool value) {
  return value ? "true" : "false";
}

std::string toml_text(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    text += escaped(c);
  }
  return text + '"';
}

std::string toml_text(const std::vector<std::int64_t>& values) {
  return list_text(values);
}

std::string toml_text(const std::vector<double>& values) {
  return list_text(values);
}

}  // namespace superstep::cluster
