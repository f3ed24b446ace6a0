// An integer of a JSON document that somebody else wrote: of the right type and in range, or none.
//
// nlohmann's get<int>() converts whatever number is there: it cuts off the upper bits of a large
// one, and what it makes of 1e300 is undefined. Json is any nlohmann::basic_json; throws nothing.
//
//   std::optional<std::int64_t> rank = json_integer(json.at("rank"), 0, num_ranks - 1);
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

namespace superstep {

template <typename Json>
std::optional<std::int64_t> json_integer(const Json& value, std::int64_t least, std::int64_t most) {
  const auto in_range = [&](auto number) -> std::optional<std::int64_t> {
    if (std::cmp_less(number, least) || std::cmp_greater(number, most)) {
      return std::nullopt;
    }
    return static_cast<std::int64_t>(number);
  };
  if (value.is_number_unsigned()) {
    return in_range(value.template get<std::uint64_t>());
  }
  if (value.is_number_integer()) {
    return in_range(value.template get<std::int64_t>());
  }
  return std::nullopt;
}

}  // namespace superstep
