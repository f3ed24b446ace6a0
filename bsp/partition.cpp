#include "bsp/partition.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep::bsp {

namespace {

void require_parts(std::int64_t n, int num_parts) {
  if (n < 0 || num_parts < 1) {
    throw InvalidArgument("Partition",
                          fmt::format("nothing to divide: got {} elements in {} parts, "
                                      "expected at least 0 in at least 1",
                                      n, num_parts));
  }
}

template <typename Border>
std::vector<std::int64_t> borders_from(int num_parts, Border&& border) {
  std::vector<std::int64_t> borders;
  for (int part = 0; part <= num_parts; ++part) {
    borders.push_back(border(part));
  }
  return borders;
}

}  // namespace

Partition::Partition(std::int64_t size, int num_parts, std::vector<std::int64_t> borders)
    : size_(size), num_parts_(num_parts), borders_(std::move(borders)) {}

Partition Partition::block(std::int64_t n, int num_parts) {
  require_parts(n, num_parts);
  const std::int64_t length = (n + num_parts - 1) / num_parts;
  return {n, num_parts,
          borders_from(num_parts, [&](std::int64_t part) { return std::min(n, part * length); })};
}

Partition Partition::cyclic(std::int64_t n, int num_parts) {
  require_parts(n, num_parts);
  return {n, num_parts, {}};
}

Partition Partition::balanced(std::int64_t n, int num_parts) {
  require_parts(n, num_parts);
  const std::int64_t quotient = n / num_parts;
  const std::int64_t remainder = n % num_parts;
  return {n, num_parts, borders_from(num_parts, [&](std::int64_t part) {
            return part * quotient + part * remainder / num_parts;
          })};
}

Partition Partition::balanced(std::span<const double> weights, int num_parts) {
  const auto n = static_cast<std::int64_t>(weights.size());
  require_parts(n, num_parts);
  std::vector<double> before{0.0};  // sums of the weights before each element
  for (const double weight : weights) {
    if (!(weight >= 0.0) || !std::isfinite(weight)) {
      throw InvalidArgument("Partition", fmt::format("weight of element {} out of range: got {}, "
                                                     "expected a number of at least 0",
                                                     before.size() - 1, weight));
    }
    before.push_back(before.back() + weight);
  }
  // A part ends behind the element that carries it over its share.
  return {n, num_parts, borders_from(num_parts, [&](int part) {
            if (part == num_parts) {
              return n;
            }
            const double share = before.back() * part / num_parts;
            return static_cast<std::int64_t>(std::lower_bound(before.begin(), before.end(), share) -
                                             before.begin());
          })};
}

std::int64_t Partition::count(int part) const {
  SUPERSTEP_DEBUG_CHECK(part >= 0 && part < num_parts_, "part out of range", part, num_parts_);
  if (borders_.empty()) {
    return (size_ - part + num_parts_ - 1) / num_parts_;
  }
  const auto i = static_cast<std::size_t>(part);
  return borders_[i + 1] - borders_[i];
}

int Partition::owner(std::int64_t index) const {
  SUPERSTEP_DEBUG_CHECK(index >= 0 && index < size_, "index out of range", index, size_);
  if (borders_.empty()) {
    return static_cast<int>(index % num_parts_);
  }
  const auto after = std::upper_bound(borders_.begin(), borders_.end(), index);
  return static_cast<int>(after - borders_.begin()) - 1;
}

std::int64_t Partition::local(std::int64_t index) const {
  return borders_.empty() ? index / num_parts_
                          : index - borders_[static_cast<std::size_t>(owner(index))];
}

std::int64_t Partition::global(int part, std::int64_t local) const {
  SUPERSTEP_DEBUG_CHECK(local >= 0 && local < count(part), "local index out of range", local,
                        count(part));
  return borders_.empty() ? local * num_parts_ + part
                          : borders_[static_cast<std::size_t>(part)] + local;
}

}  // namespace superstep::bsp
