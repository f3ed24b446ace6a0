// Grows one tree in supersteps, a level at a time, on all ranks at once.
//
// A superstep of a level:
//
//   compute    of each pair of new nodes the one with fewer rows (of all ranks; ties: the left one)
//              gets its histogram from the rank's own rows
//   exchange   histograms are reduce-scattered by feature (level_exchange.h); the sibling's is
//              parent minus child
//   compute    each rank finds the best split of every node among its features
//   exchange   the ranks' splits are gathered; the best wins, the lowest feature of equal ones
//   compute    each rank parts its own rows, in stable order
//
// Sums are integers, so that the tree has the same bits on every number of ranks (LightGBM's
// data-parallel learner with exact sums). Per level with N nodes of B bins in all and p ranks:
// h = 24 N B / 2 bytes out and in for the histograms, about 56 N p for the splits; 2 l.
//
//   TreeGrower grower(world, bins, rules, limits);
//   const Tree tree = grower.grow(packed, unit, enabled_features);    // collective
//   grower.for_each_leaf([&](const TreeNode& leaf, std::span<const std::uint32_t> rows) {...});
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "bsp/world.h"
#include "worker/estimator/bin_matrix.h"
#include "worker/estimator/gradient_histogram.h"
#include "worker/estimator/level_exchange.h"
#include "worker/estimator/split.h"
#include "worker/estimator/tree.h"

namespace superstep::worker {

struct GrowthLimits {
  int max_depth = 6;           // 1: stumps
  double learning_rate = 0.1;  // shrinks the values of leaves
};

class TreeGrower {
 public:
  // World, bins and rules must remain valid.
  TreeGrower(bsp::World& world, const BinMatrix& bins, const SplitRules& rules,
             const GrowthLimits& limits);

  // Collective. One PackedDerivatives per row of this rank; rows that do not count have none
  // (PackedDerivatives{}) and are led through the tree all the same. `enabled[f]`: whether feature
  // f may be split at.
  Tree grow(std::span<const PackedDerivatives> derivatives, const FixedPoint& unit,
            const std::vector<bool>& enabled);

  // Of the last tree: visitor(leaf, rows of this rank that end in it).
  template <typename Visitor>
  void for_each_leaf(const Tree& tree, const Visitor& visitor) const {
    for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
      if (tree.nodes[i].is_leaf()) {
        visitor(tree.nodes[i], std::span<const std::uint32_t>(rows_).subspan(
                                   ranges_[i].begin, ranges_[i].end - ranges_[i].begin));
      }
    }
  }

 private:
  struct RowRange {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  // A node of the current level. `slot`: where its histogram lies among those of the level.
  struct OpenNode {
    std::size_t node = 0;
    SplitNode sums;
    std::size_t slot = 0;
    bool is_built = true;  // from rows; else parent minus sibling
    std::size_t sibling_slot = 0;
    std::size_t parent_slot = 0;
  };

  GradientSum root_sum(std::span<const PackedDerivatives> derivatives);
  // Histograms of the level's nodes, this rank's features alone.
  void make_histograms(std::span<const OpenNode> level,
                       std::span<const PackedDerivatives> derivatives);
  void subtract(std::span<const OpenNode> level);
  std::vector<Split> find_splits(std::span<const OpenNode> level, const SplitFinder& finder,
                                 const std::vector<bool>& enabled);
  std::vector<OpenNode> apply(std::span<const OpenNode> level, std::span<const Split> splits,
                              const SplitFinder& finder, Tree& tree);
  std::size_t add_node(Tree& tree, int parent, const SplitNode& sums, const SplitFinder& finder);
  void write_node(Tree& tree, std::size_t node, const Split& split) const;
  void part_rows(const Split& split, const RowRange& range, RowRange& left, RowRange& right);

  std::span<GradientSum> histogram(std::vector<GradientSum>& level, std::size_t slot) const {
    return std::span<GradientSum>(level).subspan(slot * own_bins_, own_bins_);
  }

  bsp::World& world_;
  const BinMatrix& bins_;
  const SplitRules& rules_;
  GrowthLimits limits_;
  HistogramBuilder builder_;
  std::vector<std::size_t> feature_begin_;  // of each rank, and the end: who owns what
  std::size_t own_bins_ = 0;
  std::size_t set_words_ = 0;  // of the widest category
  LevelExchange exchange_;
  std::vector<std::uint32_t> rows_;
  std::vector<std::uint32_t> right_rows_;  // scratch
  std::vector<std::uint8_t> goes_left_;    // scratch, by bin
  std::vector<RowRange> ranges_;           // of rows_, by node
  std::vector<GradientSum> level_;         // by slot
  std::vector<GradientSum> parents_;       // of the level above, by slot
};

}  // namespace superstep::worker
