// The function of the same name that this program's own one stands before.
//
//   static const RealFunction<decltype(fsync)> real("fsync");
#pragma once

#include <dlfcn.h>

namespace superstep::simulation {

template <typename Function>
class RealFunction {
 public:
  explicit RealFunction(const char* name)
      : function_(reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name))) {}

  template <typename... Arguments>
  auto operator()(Arguments... arguments) const {
    return function_(arguments...);
  }

 private:
  Function* function_;
};

}  // namespace superstep::simulation
