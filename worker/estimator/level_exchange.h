// What ranks tell each other while they grow a level of a tree: histograms and splits.
//
// Ranks of one node lay both out in memory that they share: a rank writes to its part, all meet, an
// owner adds up the bins that it owns where they lie. Two sets of parts are used in turn, so that
// each exchange costs one meeting: who writes to a set has met the readers of its last contents.
// Over several nodes histograms are reduce-scattered and splits gathered by the world's
// collectives. Sums are integers; both ways give the same bits.
//
//   LevelExchange exchange(world, bin_begin, max_nodes);      // collective; of several ranks
//   std::span<GradientSum> space = exchange.outgoing(n);      // n x all bins, to be written
//   exchange.reduce(targets);                                 // collective: targets[i]: own bins
//   of i
//
// Cost for n nodes of B bins on p ranks: h = 24 n B (p - 1) / p bytes in and out, one l.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "bsp/shared_array.h"
#include "bsp/world.h"
#include "worker/estimator/gradient_histogram.h"

namespace superstep::worker {

class LevelExchange {
 public:
  // Collective. bin_begin[r]: the first bin that rank r owns; one more element, the number of all
  // bins. At most max_nodes nodes are laid out at once, fewer when they would take too much memory.
  LevelExchange(bsp::World& world, std::vector<std::size_t> bin_begin, std::size_t max_nodes);

  std::size_t nodes_at_once() const { return nodes_at_once_; }

  // Where this rank's histograms of `num_nodes` nodes go, node by node; all of it must be written.
  std::span<GradientSum> outgoing(std::size_t num_nodes);
  // Collective: targets[i] = sums over the ranks of the own bins of the i-th node laid out.
  void reduce(std::span<const std::span<GradientSum>> targets);
  // Collective: `mine` of every rank, in rank order; as long on all of them.
  void gather(std::span<const std::int64_t> mine, std::vector<std::int64_t>& all);

 private:
  std::span<std::byte> part(int rank, std::int64_t turn) const;
  void meet();
  void reduce_shared(std::span<const std::span<GradientSum>> targets);
  void reduce_scattered(std::span<const std::span<GradientSum>> targets);
  std::size_t all_bins() const { return bin_begin_.back(); }
  std::size_t own_begin() const { return bin_begin_[static_cast<std::size_t>(world_.rank())]; }

  bsp::World& world_;
  std::vector<std::size_t> bin_begin_;
  std::size_t nodes_at_once_;
  std::size_t part_bytes_ = 0;
  std::optional<bsp::SharedBytes> shared_;  // of one node with several ranks: 2 sets of p parts
  std::int64_t turn_ = 0;
  std::vector<GradientSum> own_;       // elsewhere: this rank's histograms
  std::vector<GradientSum> by_owner_;  // the same, in the order of the ranks that own them
  std::vector<GradientSum> received_;
};

}  // namespace superstep::worker
