// Which rank owns which of n things, and where: block, cyclic, balanced.
//
//   const Partition rows = Partition::balanced(n, world.size());
//   for (std::int64_t i = 0; i < rows.count(world.rank()); ++i) {
//     use(rows.global(world.rank(), i));
//   }
//   queue.send(rows.owner(vertex), {rows.local(vertex), value});
//
// A value; the same on all ranks when made from the same arguments. Parts may be empty. Indices out
// of range are failed checks in debug builds. Cost: owner() is O(1), of contiguous parts O(log p).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace superstep::bsp {

class Partition {
 public:
  // Contiguous parts of ceil(n/p) elements, the last ones shorter or empty (Bisseling 2004, 1.2).
  static Partition block(std::int64_t n, int num_parts);
  // Element i belongs to part i mod p.
  static Partition cyclic(std::int64_t n, int num_parts);
  // Contiguous parts whose sizes differ by one at most.
  static Partition balanced(std::int64_t n, int num_parts);
  // Contiguous parts of nearly the same weight: none has more than 1/p of the total and one
  // element's weight. Weights must not be negative (InvalidArgument).
  static Partition balanced(std::span<const double> weights, int num_parts);

  std::int64_t size() const { return size_; }
  int num_parts() const { return num_parts_; }
  std::int64_t count(int part) const;
  int owner(std::int64_t index) const;
  std::int64_t local(std::int64_t index) const;  // index within the owner's part
  std::int64_t global(int part, std::int64_t local) const;

 private:
  Partition(std::int64_t size, int num_parts, std::vector<std::int64_t> borders);

  std::int64_t size_;
  int num_parts_;
  std::vector<std::int64_t> borders_;  // part k: [borders_[k], borders_[k + 1]); empty: cyclic
};

}  // namespace superstep::bsp
