// Where in the source a collective was called, so that reports can name it.
#pragma once

#include <string_view>

namespace superstep::bsp {

struct CallSite {
  const char* file = "";
  int line = 0;

  // As a default argument it names the caller: `void sync(CallSite site = CallSite::here());`
  static constexpr CallSite here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

}  // namespace superstep::bsp
