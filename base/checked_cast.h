// Integer narrowing that refuses to change the value.
//
// Throws InvalidArgument with the value and the range of the target type. Counts cross into MPI
// only through it. Costs two comparisons; none when the target holds every value of the source.
//
//   MPI_Send(data, checked_cast<int>(count, "element count"), ...);
#pragma once

#include <concepts>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep {

// Integers that std::in_range can compare: no bool, no character types.
template <typename T>
concept CheckedInteger =
    std::integral<T> && !std::same_as<std::remove_cv_t<T>, bool> &&
    !std::same_as<std::remove_cv_t<T>, char> && !std::same_as<std::remove_cv_t<T>, wchar_t> &&
    !std::same_as<std::remove_cv_t<T>, char8_t> && !std::same_as<std::remove_cv_t<T>, char16_t> &&
    !std::same_as<std::remove_cv_t<T>, char32_t>;

// `name` says in the error what the value is.
template <CheckedInteger To, CheckedInteger From>
constexpr To checked_cast(From value, std::string_view name = "value") {
  if (!std::in_range<To>(value)) [[unlikely]] {
    throw InvalidArgument("checked_cast", fmt::format("{} out of range: got {}, expected {} to {}",
                                                      name, value, std::numeric_limits<To>::min(),
                                                      std::numeric_limits<To>::max()));
  }
  return static_cast<To>(value);
}

}  // namespace superstep
