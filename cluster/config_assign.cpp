#include "cluster/config_assign.h"

#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/text.h"

namespace superstep::cluster {

namespace {

std::string wrong_type(const Key& key, const toml::node& node) {
  return fmt::format("key '{}' has the wrong type: got {}, expected {}", key.path,
                     describe_value(node), expectation(key));
}

std::string out_of_range(const Key& key, const toml::node& node) {
  return fmt::format("key '{}' is out of range: got {}, expected {}", key.path,
                     describe_value(node), expectation(key));
}

std::string impossible(const Key& key, const std::string& value) {
  const std::vector<std::string> choices(key.choices.begin(), key.choices.end());
  return fmt::format("key '{}' has an impossible value: got \"{}\", expected {}{}", key.path, value,
                     expectation(key), did_you_mean(value, choices));
}

std::optional<std::int64_t> number(const toml::node& node, std::int64_t) {
  return node.is_integer() ? std::optional(node.as_integer()->get()) : std::nullopt;
}

// 1 is a fine number where 1.0 is wanted.
std::optional<double> number(const toml::node& node, double) {
  if (node.is_integer()) {
    return static_cast<double>(node.as_integer()->get());
  }
  return node.is_floating_point() ? std::optional(node.as_floating_point()->get()) : std::nullopt;
}

class Assigner {
 public:
  Assigner(const Key& key, const toml::node& node, RunConfig& config)
      : key_(key), node_(node), config_(config) {}

  template <typename T>
  std::string operator()(FieldOf<T> field) {
    return into(field(config_));
  }

 private:
  std::string into(bool& target) {
    if (!node_.is_boolean()) {
      return wrong_type(key_, node_);
    }
    target = node_.as_boolean()->get();
    return {};
  }

  std::string into(std::string& target) {
    if (!node_.is_string()) {
      return wrong_type(key_, node_);
    }
    const std::string& value = node_.as_string()->get();
    bool known = key_.choices.empty();
    for (const std::string_view choice : key_.choices) {
      known = known || choice == value;
    }
    if (!known) {
      return impossible(key_, value);
    }
    target = value;
    return {};
  }

  template <typename T>
  std::string into(T& target) {
    const std::optional<T> value = number(node_, T{});
    if (!value) {
      return wrong_type(key_, node_);
    }
    if (!key_.range.contains(static_cast<double>(*value))) {
      return out_of_range(key_, node_);
    }
    target = *value;
    return {};
  }

  template <typename T>
  std::string into(std::vector<T>& target) {
    const toml::array* array = node_.as_array();
    if (array == nullptr) {
      return wrong_type(key_, node_);
    }
    std::vector<T> values;
    for (const toml::node& element : *array) {
      const std::optional<T> value = number(element, T{});
      if (!value) {
        return wrong_type(key_, node_);
      }
      if (!key_.range.contains(static_cast<double>(*value))) {
        return out_of_range(key_, node_);
      }
      values.push_back(*value);
    }
    target = std::move(values);
    return {};
  }

  const Key& key_;
  const toml::node& node_;
  RunConfig& config_;
};

std::string_view article_and_type(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

}  // namespace

std::string describe_value(const toml::node& node) {
  constexpr std::size_t kShown = 60;
  std::ostringstream text;
  text << toml::node_view<const toml::node>(node);
  std::string shown = text.str();
  if (node.is_table()) {
    return "a table";
  }
  if (shown.size() > kShown) {
    shown = shown.substr(0, kShown) + "...";
  }
  return fmt::format("{} ({})", shown, article_and_type(node));
}

std::string assign(const Key& key, const toml::node& node, RunConfig& config) {
  return std::visit(Assigner(key, node, config), key.field);
}

}  // namespace superstep::cluster
