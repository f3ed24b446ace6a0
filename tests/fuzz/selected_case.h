// Several small parsers in one fuzz target: the first byte, '0' for the first of them, says which
// one reads the rest of the input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace superstep::testing {

using FuzzCase = void (*)(std::string_view input);

inline int run_selected(std::span<const FuzzCase> cases, const std::uint8_t* data,
                        std::size_t size) {
  if (size > 0) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    cases[static_cast<std::uint8_t>(data[0] - '0') % cases.size()](input.substr(1));
  }
  return 0;
}

// What a target promises beyond not crashing.
inline void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

}  // namespace superstep::testing
