#include "bsp/reduce.h"

#include <array>

#include "base/error.h"

namespace superstep::bsp::internal {

namespace {

constexpr std::array<std::string_view, 11> kTypeNames = {"bool",   "int8",    "uint8",  "int16",
                                                         "uint16", "int32",   "uint32", "int64",
                                                         "uint64", "float32", "float64"};
constexpr std::array<std::int64_t, 11> kTypeSizes = {1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8};

template <typename T, typename Op>
void combine_with(std::byte* out, const std::byte* left, const std::byte* right, std::int64_t count,
                  Op op) {
  auto* o = reinterpret_cast<T*>(out);
  const auto* l = reinterpret_cast<const T*>(left);
  const auto* r = reinterpret_cast<const T*>(right);
  for (std::int64_t i = 0; i < count; ++i) {
    o[i] = op(l[i], r[i]);
  }
}

template <typename T>
void combine_as(ReduceOp op, std::byte* out, const std::byte* left, const std::byte* right,
                std::int64_t count) {
  switch (op) {
    case ReduceOp::kSum:
      // The cast wraps small integers as their type does.
      return combine_with<T>(out, left, right, count,
                             [](T l, T r) { return static_cast<T>(l + r); });
    case ReduceOp::kMin:
      return combine_with<T>(out, left, right, count, [](T l, T r) { return r < l ? r : l; });
    case ReduceOp::kMax:
      return combine_with<T>(out, left, right, count, [](T l, T r) { return l < r ? r : l; });
  }
}

}  // namespace

std::int64_t size_of(DataType type) {
  return kTypeSizes[static_cast<std::size_t>(type)];
}
std::string_view name_of(DataType type) {
  return kTypeNames[static_cast<std::size_t>(type)];
}

void require_reducible(DataType type, ReduceOp op) {
  if (type == DataType::kBool && op == ReduceOp::kSum) {
    throw InvalidArgument("World::allreduce",
                          "no sum of bool: got kSum, expected kMin (and) or kMax (or)");
  }
}

void combine(DataType type, ReduceOp op, std::byte* out, const std::byte* left,
             const std::byte* right, std::int64_t count) {
  switch (type) {
    case DataType::kBool:
    case DataType::kUint8:
      return combine_as<std::uint8_t>(op, out, left, right, count);
    case DataType::kInt8:
      return combine_as<std::int8_t>(op, out, left, right, count);
    case DataType::kInt16:
      return combine_as<std::int16_t>(op, out, left, right, count);
    case DataType::kUint16:
      return combine_as<std::uint16_t>(op, out, left, right, count);
    case DataType::kInt32:
      // Unsigned sums wrap without undefined behaviour and have the same bits.
      return op == ReduceOp::kSum ? combine_as<std::uint32_t>(op, out, left, right, count)
                                  : combine_as<std::int32_t>(op, out, left, right, count);
    case DataType::kUint32:
      return combine_as<std::uint32_t>(op, out, left, right, count);
    case DataType::kInt64:
      return op == ReduceOp::kSum ? combine_as<std::uint64_t>(op, out, left, right, count)
                                  : combine_as<std::int64_t>(op, out, left, right, count);
    case DataType::kUint64:
      return combine_as<std::uint64_t>(op, out, left, right, count);
    case DataType::kFloat32:
      return combine_as<float>(op, out, left, right, count);
    case DataType::kFloat64:
      return combine_as<double>(op, out, left, right, count);
  }
}

}  // namespace superstep::bsp::internal
