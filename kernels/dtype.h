// Element types of tensors.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

namespace superstep::kernels {

enum class DType : std::uint8_t { kFloat32, kFloat64, kInt32, kInt64, kUint8, kBool };

std::int64_t size_of(DType dtype);          // bytes per element
std::string_view name_of(DType dtype);      // "float32"
bool is_floating_point(DType dtype);

template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) {
    return DType::kFloat32;
  } else if constexpr (std::is_same_v<T, double>) {
    return DType::kFloat64;
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return DType::kInt32;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return DType::kInt64;
  } else if constexpr (std::is_same_v<T, std::uint8_t>) {
    return DType::kUint8;
  } else {
    static_assert(std::is_same_v<T, bool>, "not an element type of tensors");
    return DType::kBool;
  }
}

}  // namespace superstep::kernels
