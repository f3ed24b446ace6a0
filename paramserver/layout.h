// Where every parameter lives: names, shapes and offsets in one flat float32 buffer, cut into
// shards.
//
// Each entry starts on 64 bytes. The buffer is cut into blocks of 4,096 elements; a shard is a run
// of whole blocks, so sums over blocks (norms, dots, checksums) never depend on the number of
// ranks. What lies between entries and after the last one is padding; it is zero and stays zero.
// The same layout holds for gradients and for the optimizer's state arrays.
//
//   ParameterLayout layout;
//   layout.add({.name = "dense1/weight", .shape = {784, 200}});
//   layout.freeze();
//   ElementRange mine = layout.shard(rank, size);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "kernels/shape.h"

namespace superstep::paramserver {

inline constexpr std::int64_t kBlockElements = 4096;

enum class EntryRole : std::uint8_t {
  kTrainable,
  // Running mean or variance of batch normalisation: the optimizer leaves it alone; once per step
  // it becomes (1 - fold) * old + fold * (count-weighted mean of what the slots pushed).
  kStatistic,
};

struct LayoutEntry {
  std::string name;  // unique; "/" separates levels
  kernels::Shape shape;
  EntryRole role = EntryRole::kTrainable;
  float fold = 0.1F;        // kStatistic only
  bool decayed = true;      // weight decay applies (biases and normalisation scales: false)
  std::int64_t offset = 0;  // elements; set by add()

  std::int64_t num_elements() const { return shape.num_elements(); }
};

std::string_view name_of(EntryRole role);

struct ElementRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t length() const { return end - begin; }
  friend bool operator==(const ElementRange&, const ElementRange&) = default;
};

class ParameterLayout {
 public:
  // Sets the offset and returns the index. Throws InvalidArgument for a second entry of that name,
  // an entry without elements, a fold outside (0, 1], and names that could not be a path in an
  // archive: printable ASCII without blank, quotes, backslash, and no level that is empty, "." or
  // "..".
  int add(LayoutEntry entry);
  void freeze();  // no more entries; size() is final
  // The inverse of describe(), frozen. Throws InvalidArgument that names the line.
  static ParameterLayout parse(std::string_view description);

  std::span<const LayoutEntry> entries() const { return entries_; }
  const LayoutEntry& entry(
      std::string_view name) const;     // throws InvalidArgument with the nearest name
  std::int64_t num_parameters() const;  // elements of trainable entries, without padding
  // Elements of the buffer: whole blocks, at least one. Only of a frozen layout.
  std::int64_t size() const;
  std::int64_t num_blocks() const { return size() / kBlockElements; }
  // Blocks are dealt out evenly: rank k of p owns blocks [floor(kB/p), floor((k+1)B/p)). May be
  // empty.
  ElementRange shard(int rank, int num_ranks) const;
  std::vector<std::int64_t> shard_cuts(int num_ranks) const;  // p + 1 offsets

  // One line per entry; equal text means equal layout.
  //   dense1/weight (784, 200) trainable decayed
  //   norm1/mean (16) statistic fold=0.100000001
  std::string describe() const;
  // XXH3-128 over the little-endian bytes of all entries in order, without padding. buffer.size()
  // == size().
  Hash128 parameters_hash(std::span<const float> buffer) const;

 private:
  const LayoutEntry* find(std::string_view name) const;  // nullptr when there is none

  std::vector<LayoutEntry> entries_;
  std::int64_t used_ = 0;
  bool frozen_ = false;
};

}  // namespace superstep::paramserver
