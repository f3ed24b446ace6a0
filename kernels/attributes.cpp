#include "kernels/attributes.h"

#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace superstep::kernels {
namespace {

template <typename T>
std::string_view type_name() {
  if constexpr (std::is_same_v<T, bool>) {
    return "a boolean";
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return "an integer";
  } else if constexpr (std::is_same_v<T, double>) {
    return "a real";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "a text";
  } else {
    return "a list of integers";
  }
}

std::string describe(const Attribute& attribute) {
  return std::visit(
      [](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
          return fmt::format("[{}]", fmt::join(value, ", "));
        } else if constexpr (std::is_same_v<T, std::string>) {
          return fmt::format("\"{}\"", value);
        } else {
          return fmt::format("{}", value);
        }
      },
      attribute);
}

template <typename T, typename Map>
const T& get(const Map& values, std::string_view name) {
  const auto found = values.find(name);
  if (found == values.end()) {
    throw InvalidArgument("Attributes",
                          fmt::format("attribute {}: got none, expected {}", name, type_name<T>()));
  }
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr) {
    throw InvalidArgument("Attributes", fmt::format("attribute {}: got {}, expected {}", name,
                                                    describe(found->second), type_name<T>()));
  }
  return *value;
}

}  // namespace

bool Attributes::contains(std::string_view name) const {
  return values_.find(name) != values_.end();
}

bool Attributes::boolean(std::string_view name) const {
  return get<bool>(values_, name);
}

std::int64_t Attributes::integer(std::string_view name) const {
  return get<std::int64_t>(values_, name);
}

double Attributes::real(std::string_view name) const {
  return get<double>(values_, name);
}

const std::string& Attributes::text(std::string_view name) const {
  return get<std::string>(values_, name);
}

const std::vector<std::int64_t>& Attributes::integers(std::string_view name) const {
  return get<std::vector<std::int64_t>>(values_, name);
}

Attributes Attributes::with(std::string_view name, Attribute value) && {
  values_.insert_or_assign(std::string(name), std::move(value));
  return std::move(*this);
}

std::string Attributes::to_string() const {
  std::string text;
  for (const auto& [name, value] : values_) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", name, describe(value));
  }
  return text;
}

}  // namespace superstep::kernels
