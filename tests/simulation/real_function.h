// The function of the same name that this program's own one stands before.
#pragma once

#include <dlfcn.h>

namespace superstep::simulation {

template <typename Function>
Function* real_function(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace superstep::simulation
