// Element types of tensors.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace superstep::kernels {

enum class DType : std::uint8_t { kFloat32, kFloat64, kInt32, kInt64, kUint8, kBool };

inline constexpr std::array<DType, 6> kAllDTypes = {DType::kFloat32, DType::kFloat64, DType::kInt32,
                                                    DType::kInt64,   DType::kUint8,   DType::kBool};

std::int64_t size_of(DType dtype);         // bytes per element
std::string_view name_of(DType dtype);     // "float32"
DType dtype_named(std::string_view name);  // throws InvalidArgument
bool is_floating_point(DType dtype);
bool is_integer(DType dtype);  // int32 or int64: what indices and labels may be

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
