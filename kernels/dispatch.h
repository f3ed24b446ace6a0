// From a DType at run time to a C++ type at compile time: one call instead of a switch per kernel.
//
//   dispatch_floating(x.dtype(), [&]<typename T>() { relu<T>(x.data<T>(), y.mutable_data<T>()); });
//
// dispatch_floating serves float32 and float64, dispatch_index int32 and int64, dispatch_any all;
// another dtype is a failed check, since shape inference has refused it before.
#pragma once

#include <cstdint>
#include <utility>

#include "base/check.h"
#include "kernels/dtype.h"

namespace superstep::kernels {

template <typename Function>
void dispatch_floating(DType dtype, Function&& function) {
  if (dtype == DType::kFloat32) {
    function.template operator()<float>();
  } else {
    SUPERSTEP_CHECK(dtype == DType::kFloat64, "not a floating-point dtype", name_of(dtype));
    function.template operator()<double>();
  }
}

template <typename Function>
void dispatch_index(DType dtype, Function&& function) {
  if (dtype == DType::kInt32) {
    function.template operator()<std::int32_t>();
  } else {
    SUPERSTEP_CHECK(dtype == DType::kInt64, "not an index dtype", name_of(dtype));
    function.template operator()<std::int64_t>();
  }
}

template <typename Function>
void dispatch_any(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::kInt32:
    case DType::kInt64:
      return dispatch_index(dtype, std::forward<Function>(function));
    case DType::kUint8:
      return function.template operator()<std::uint8_t>();
    case DType::kBool:
      return function.template operator()<bool>();
    default:
      return dispatch_floating(dtype, std::forward<Function>(function));
  }
}

}  // namespace superstep::kernels
