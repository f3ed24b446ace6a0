#include "kernels/dtype.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep::kernels {

std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
    case DType::kUint8:
    case DType::kBool:
      return 1;
  }
  SUPERSTEP_CHECK(false, "unknown dtype", static_cast<int>(dtype));
}

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kUint8:
      return "uint8";
    case DType::kBool:
      return "bool";
  }
  SUPERSTEP_CHECK(false, "unknown dtype", static_cast<int>(dtype));
}

DType dtype_named(std::string_view name) {
  for (const DType dtype : kAllDTypes) {
    if (name_of(dtype) == name) {
      return dtype;
    }
  }
  throw InvalidArgument("dtype_named", fmt::format("unknown element type: got \"{}\", expected "
                                                   "float32, float64, int32, int64, uint8 or bool",
                                                   name));
}

bool is_floating_point(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64;
}

bool is_integer(DType dtype) {
  return dtype == DType::kInt32 || dtype == DType::kInt64;
}

}  // namespace superstep::kernels
