// Named constants of an op call: strides, axes, rates. Ordered by name, comparable, printable,
// hashable.
//
//   Attributes{{"stride", std::vector<std::int64_t>{2, 2}}, {"keep_dims", true}}
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace superstep::kernels {

using Attribute = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>>;

class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<const std::string, Attribute>> values)
      : values_(values) {}

  bool contains(std::string_view name) const;
  // Throw InvalidArgument naming the attribute when it is missing or of another type.
  bool boolean(std::string_view name) const;
  std::int64_t integer(std::string_view name) const;
  double real(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  const std::vector<std::int64_t>& integers(std::string_view name) const;
  std::string to_string() const;
  // The same with one more, or another one of this name.
  Attributes with(std::string_view name, Attribute value) &&;

  friend bool operator==(const Attributes&, const Attributes&) = default;

 private:
  std::map<std::string, Attribute, std::less<>> values_;
};

}  // namespace superstep::kernels
