// Applies a step to one shard: mean, clip, optimizer rule or statistic, entry by entry.
//
// Owns the optimizer state of the shard (it exists once in the world). Works on tiles of at most
// kBlockElements, in any order within a step; padding between entries is never touched.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "paramserver/layout.h"
#include "paramserver/optimizer.h"
#include "paramserver/server.h"

namespace superstep::paramserver {

// What is the same for all elements of a step.
struct ShardStep {
  std::int64_t step = 1;
  double learning_rate = 0.0;
  std::int64_t num_samples = 0;  // the divisor of the sums
  double clip_value = 0.0;       // 0: off
  const ApplyOptions* options = nullptr;
};

class ShardUpdater {
 public:
  // `layout` must outlive this object.
  ShardUpdater(const ParameterLayout& layout, ElementRange shard, OptimizerSpec optimizer);

  // mean = sum / num_samples, clipped by value, for every entry's part of the tile that starts at
  // the absolute element `begin`; zero for padding and for what the mask leaves out.
  void mean_of_tile(const ShardStep& step, std::int64_t begin, std::span<const float> sums,
                    std::span<float> mean) const;
  // Zeroes the statistics, which do not belong to the gradient's norm.
  void keep_only_gradient(std::int64_t begin, std::span<float> mean) const;
  // Multiplies the gradient part of the tile (the global norm's clip).
  void scale_gradient(std::int64_t begin, double factor, std::span<float> mean) const;
  // Updates the parameters of the tile and their optimizer state in place.
  void update_tile(const ShardStep& step, std::int64_t begin, std::span<const float> mean,
                   std::span<float> parameters);

  void reset_state();
  const std::vector<StateArray>& state_names() const { return state_names_; }
  std::span<float> state(std::size_t index) { return states_[index].span(); }
  ElementRange shard() const { return shard_; }

 private:
  // A part of one entry that lies in this shard.
  struct Segment {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    int entry = 0;
    EntryRole role = EntryRole::kTrainable;
    bool decayed = true;
    float fold = 0.0F;
  };

  // Calls body(segment, first, last) for every segment's part [first, last) of the tile.
  template <typename Body>
  void for_segments(std::int64_t begin, std::int64_t count, const Body& body) const;
  static bool is_masked(const ShardStep& step, const Segment& segment);

  ElementRange shard_;
  OptimizerSpec optimizer_;
  std::vector<Segment> segments_;
  std::vector<StateArray> state_names_;
  std::vector<AlignedBuffer<float>> states_;
};

}  // namespace superstep::paramserver
