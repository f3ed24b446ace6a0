// What the table of keys says about itself: ranges, types and the reference for people.
#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/text.h"
#include "cluster/config_keys.h"
#include "cluster/config_text.h"

namespace superstep::cluster {

namespace {

struct TypeName {
  std::string_view operator()(FieldOf<std::int64_t>) const { return "integer"; }
  std::string_view operator()(FieldOf<double>) const { return "number"; }
  std::string_view operator()(FieldOf<bool>) const { return "boolean"; }
  std::string_view operator()(FieldOf<std::string>) const { return "string"; }
  std::string_view operator()(FieldOf<std::vector<std::int64_t>>) const {
    return "list of integers";
  }
  std::string_view operator()(FieldOf<std::vector<double>>) const { return "list of numbers"; }
};

std::string number_text(double value) {
  return std::abs(value) < 1e15 && value == std::floor(value) ? fmt::format("{:.0f}", value)
                                                              : fmt::format("{}", value);
}

std::string_view section_of(std::string_view path) {
  return path.substr(0, path.rfind('.'));
}

std::string limits_text(const Key& key) {
  if (!key.choices.empty()) {
    return fmt::format("{}", fmt::join(key.choices, ", "));
  }
  return key.range.to_string();
}

}  // namespace

bool Range::contains(double value) const {
  const bool above = low_included ? value >= low : value > low;
  const bool below = high_included ? value <= high : value < high;
  return above && below && std::isfinite(value);
}

std::string Range::to_string() const {
  const bool bounded_below = std::isfinite(low);
  const bool bounded_above = std::isfinite(high);
  if (bounded_below && bounded_above) {
    return fmt::format("in {}{}, {}{}", low_included ? '[' : '(', number_text(low),
                       number_text(high), high_included ? ']' : ')');
  }
  if (bounded_below) {
    return fmt::format("{} {}", low_included ? "at least" : "greater than", number_text(low));
  }
  if (bounded_above) {
    return fmt::format("{} {}", high_included ? "at most" : "less than", number_text(high));
  }
  return {};
}

std::string_view type_name(const Key& key) {
  return std::visit(TypeName(), key.field);
}

std::string expectation(const Key& key) {
  if (!key.choices.empty()) {
    return fmt::format("one of \"{}\"", fmt::join(key.choices, "\", \""));
  }
  const std::string_view type = type_name(key);
  const std::string range = key.range.to_string();
  return fmt::format("{} {}{}{}", type == "integer" ? "an" : "a", type, range.empty() ? "" : ", ",
                     range);
}

std::string value_text(const Key& key, const RunConfig& config) {
  RunConfig copy = config;
  return std::visit([&](auto field) { return toml_text(field(copy)); }, key.field);
}

std::string keys_as_text() {
  const RunConfig defaults;
  std::string text;
  std::string_view section;
  for (const Key& key : config_keys()) {
    if (section_of(key.path) != section) {
      section = section_of(key.path);
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
    }
    const std::string limits = limits_text(key);
    text += fmt::format("  {} = {}    ({}{}{})\n      {}\n", key.path.substr(section.size() + 1),
                        value_text(key, defaults), type_name(key), limits.empty() ? "" : ": ",
                        limits, key.help);
  }
  return text;
}

std::string keys_as_markdown() {
  const RunConfig defaults;
  std::string text;
  std::string_view section;
  for (const Key& key : config_keys()) {
    if (section_of(key.path) != section) {
      section = section_of(key.path);
      text += fmt::format(
          "{}## [{}]\n\n| key | type | default | values | resume | meaning |\n"
          "|---|---|---|---|---|---|\n",
          text.empty() ? "" : "\n", section);
    }
    text += fmt::format(
        "| `{}` | {} | `{}` | {} | {} | {} |\n", key.path.substr(section.size() + 1),
        type_name(key), value_text(key, defaults), limits_text(key),
        key.on_resume == OnResume::kMayChange ? "may change" : "must be equal", key.help);
  }
  return text;
}

}  // namespace superstep::cluster
