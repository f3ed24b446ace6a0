// The dimensions of a tensor, outermost first; () is a scalar. Every size is >= 0.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::kernels {

// Kernels keep indices in arrays of this length on the stack, so that running one allocates
// nothing.
inline constexpr int kMaxRank = 8;

class Shape {
 public:
  Shape() = default;
  // Throw InvalidArgument on a negative size and on more than kMaxRank dimensions.
  Shape(std::initializer_list<std::int64_t> sizes);
  explicit Shape(std::vector<std::int64_t> sizes);

  int rank() const { return static_cast<int>(sizes_.size()); }
  // axis may be negative (counted from the end); throws InvalidArgument when out of range.
  std::int64_t operator[](int axis) const;
  // The same axis counted from the front; throws InvalidArgument when out of range.
  int axis(std::int64_t axis) const;
  std::span<const std::int64_t> sizes() const { return sizes_; }
  std::int64_t num_elements() const;          // throws InvalidArgument on overflow of int64
  std::vector<std::int64_t> strides() const;  // row-major, in elements
  std::string to_string() const;              // "(64, 3, 32, 32)"

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::vector<std::int64_t> sizes_;
};

// NumPy broadcasting; throws InvalidArgument that names `where` and both shapes.
Shape broadcast_shapes(std::string_view where, const Shape& a, const Shape& b);

}  // namespace superstep::kernels
