#include "kernels/shape.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace superstep::kernels {
namespace {

void require_valid(const std::vector<std::int64_t>& sizes) {
  if (sizes.size() > static_cast<std::size_t>(kMaxRank)) {
    throw InvalidArgument("Shape", fmt::format("too many dimensions: got {}, expected at most {}",
                                               sizes.size(), kMaxRank));
  }
  for (const std::int64_t size : sizes) {
    if (size < 0) {
      throw InvalidArgument("Shape", fmt::format("negative size: got ({}), expected sizes >= 0",
                                                 fmt::join(sizes, ", ")));
    }
  }
}

}  // namespace

Shape::Shape(std::initializer_list<std::int64_t> sizes) : sizes_(sizes) {
  require_valid(sizes_);
}

Shape::Shape(std::vector<std::int64_t> sizes) : sizes_(std::move(sizes)) {
  require_valid(sizes_);
}

int Shape::axis(std::int64_t axis) const {
  if (axis < -rank() || axis >= rank()) {
    throw InvalidArgument(
        "Shape", fmt::format("axis out of range: got {}, expected from {} to {} for shape {}", axis,
                             -rank(), rank() - 1, to_string()));
  }
  return static_cast<int>(axis < 0 ? axis + rank() : axis);
}

std::int64_t Shape::operator[](int index) const {
  return sizes_[static_cast<std::size_t>(axis(index))];
}

std::int64_t Shape::num_elements() const {
  std::int64_t count = 1;
  bool overflow = false;
  for (const std::int64_t size : sizes_) {
    if (size == 0) {
      return 0;
    }
    overflow = __builtin_mul_overflow(count, size, &count) || overflow;
  }
  if (overflow) {
    throw InvalidArgument(
        "Shape", fmt::format("too many elements: got {}, expected fewer than 2^63", to_string()));
  }
  return count;
}

std::vector<std::int64_t> Shape::strides() const {
  std::vector<std::int64_t> strides(sizes_.size(), 1);
  for (std::size_t i = sizes_.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * sizes_[i];
  }
  return strides;
}

std::string Shape::to_string() const {
  return fmt::format("({})", fmt::join(sizes_, ", "));
}

Shape broadcast_shapes(std::string_view where, const Shape& a, const Shape& b) {
  const std::span<const std::int64_t> longer = a.rank() >= b.rank() ? a.sizes() : b.sizes();
  const std::span<const std::int64_t> shorter = a.rank() >= b.rank() ? b.sizes() : a.sizes();
  std::vector<std::int64_t> sizes(longer.begin(), longer.end());
  const std::size_t offset = longer.size() - shorter.size();
  for (std::size_t i = 0; i < shorter.size(); ++i) {
    std::int64_t& size = sizes[offset + i];
    if (size != shorter[i] && size != 1 && shorter[i] != 1) {
      throw InvalidArgument(
          where, fmt::format("shapes do not broadcast: got {} and {}, expected equal sizes or 1, "
                             "counted from the last dimension",
                             a.to_string(), b.to_string()));
    }
    size = size == 1 ? shorter[i] : size;
  }
  return Shape(std::move(sizes));
}

}  // namespace superstep::kernels
