// Where every parameter lives: names, shapes and offsets in one flat float32 buffer, cut into shards.
//
// Each entry starts on 64 bytes. The buffer is cut into blocks of 4,096 elements; a shard is a run of
// whole blocks, so sums over blocks (norms, dots, checksums) never depend on the number of ranks.
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
  // Running mean or variance of batch normalisation: the optimizer leaves it alone; once per step it
  // becomes (1 - fold) * old + fold * (count-weighted mean of what the slots pushed).
  kStatistic,
};

struct LayoutEntry {
  std::string name;                   // unique; "/" separates levels
  kernels::Shape shape;
  EntryRole role = EntryRole::kTrainable;
  float fold = 0.1F;                  // kStatistic only
  bool decayed = true;                // weight decay applies (biases and normalisation scales: false)
  std::int64_t offset = 0;            // elements; set by add()

  std::int64_t num_elements() const { return shape.num_elements(); }
};

struct ElementRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t length() const { return end - begin; }
  friend bool operator==(const ElementRange&, const ElementRange&) = default;
};

class ParameterLayout {
 public:
  int add(LayoutEntry entry);         // index; throws InvalidArgument on a second entry of that name
  void freeze();                      // no more entries; size() is final

  std::span<const LayoutEntry> entries() const { return entries_; }
  const LayoutEntry& entry(std::string_view name) const;  // throws InvalidArgument with the nearest name
  std::int64_t num_parameters() const;                    // elements of trainable entries, without padding
  std::int64_t size() const;                              // elements of the buffer: whole blocks
  std::int64_t num_blocks() const { return size() / kBlockElements; }
  // Blocks are dealt out evenly: rank k of p owns blocks [floor(kB/p), floor((k+1)B/p)). May be empty.
  ElementRange shard(int rank, int num_ranks) const;
  std::vector<std::int64_t> shard_cuts(int num_ranks) const;  // p + 1 offsets

  std::string describe() const;       // one line per entry; equal text means equal layout
  // XXH3-128 over the little-endian bytes of all entries in order, without padding. buffer.size() == size().
  Hash128 parameters_hash(std::span<const float> buffer) const;

 private:
  std::vector<LayoutEntry> entries_;
  std::int64_t used_ = 0;
  bool frozen_ = false;
};

}  // namespace superstep::paramserver
