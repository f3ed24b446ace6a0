// What one error says inside another's message.
//
//   throw DataError("write_checkpoint", path, -1, fmt::format("not written: {}",
//   detail_of(error)));
#pragma once

#include <string_view>

#include "base/error.h"

namespace superstep {

// The message without its "[where] ". Valid as long as the error is.
inline std::string_view detail_of(const Error& error) {
  const std::string_view message = error.what();
  const std::size_t end = message.find("] ");
  return end == std::string_view::npos ? message : message.substr(end + 2);
}

}  // namespace superstep
