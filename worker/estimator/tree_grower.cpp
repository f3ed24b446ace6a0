#include "worker/estimator/tree_grower.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/check.h"

namespace superstep::worker {

namespace {

// Contiguous features per rank, of about equal numbers of bins: a feature belongs to the rank that
// the middle of its bins falls to.
std::vector<std::size_t> owned_features(const BinMatrix& bins, int num_ranks) {
  const std::span<const std::uint32_t> offsets = bins.offsets();
  std::vector<std::size_t> begin(static_cast<std::size_t>(num_ranks) + 1, bins.num_features());
  begin[0] = 0;
  std::size_t rank = 0;
  for (std::size_t f = 0; f < bins.num_features(); ++f) {
    const std::uint64_t twice_middle = std::uint64_t{offsets[f]} + offsets[f + 1];
    const auto owner = static_cast<std::size_t>(std::min<std::uint64_t>(
        twice_middle * static_cast<std::uint64_t>(num_ranks) / (2 * std::uint64_t{offsets.back()}),
        static_cast<std::uint64_t>(num_ranks) - 1));
    while (rank < owner) {
      begin[++rank] = f;
    }
  }
  return begin;
}

// The first bin of each rank, and the end.
std::vector<std::size_t> owned_bins(const BinMatrix& bins,
                                    std::span<const std::size_t> feature_begin) {
  std::vector<std::size_t> begin;
  begin.reserve(feature_begin.size());
  for (const std::size_t feature : feature_begin) {
    begin.push_back(bins.offsets()[feature]);
  }
  return begin;
}

std::size_t widest_set(std::span<const FeatureCuts> cuts) {
  std::size_t words = 0;
  for (const FeatureCuts& one : cuts) {
    if (one.is_category) {
      words = std::max(words, (static_cast<std::size_t>(one.num_bins()) + 63) / 64);
    }
  }
  return words;
}

}  // namespace

TreeGrower::TreeGrower(bsp::World& world, const BinMatrix& bins, const SplitRules& rules,
                       const GrowthLimits& limits)
    : world_(world),
      bins_(bins),
      rules_(rules),
      limits_(limits),
      builder_(bins),
      feature_begin_(owned_features(bins, world.size())),
      set_words_(widest_set(bins.cuts())),
      exchange_(world, owned_bins(bins, feature_begin_),
                std::size_t{1} << static_cast<unsigned>(limits.max_depth - 1)),
      rows_(bins.num_rows()),
      right_rows_(bins.num_rows()) {
  const auto rank = static_cast<std::size_t>(world.rank());
  own_bins_ = bins.offsets()[feature_begin_[rank + 1]] - bins.offsets()[feature_begin_[rank]];
}

GradientSum TreeGrower::root_sum(std::span<const PackedDerivatives> derivatives) {
  GradientSum sum;
  for (const PackedDerivatives& one : derivatives) {
    sum += unpack(one);
  }
  std::array<std::int64_t, 3> words = {sum.gradient, sum.hessian, sum.count};
  world_.allreduce(std::span<const std::int64_t>(words), std::span<std::int64_t>(words),
                   bsp::ReduceOp::kSum);
  return {.gradient = words[0], .hessian = words[1], .count = words[2]};
}

Tree TreeGrower::grow(std::span<const PackedDerivatives> derivatives, const FixedPoint& unit,
                      const std::vector<bool>& enabled) {
  SUPERSTEP_CHECK(derivatives.size() == rows_.size(), derivatives.size(), rows_.size());
  const SplitFinder finder(bins_.cuts(), rules_, unit);
  std::iota(rows_.begin(), rows_.end(), 0U);
  ranges_.clear();
  Tree tree;
  OpenNode root;
  root.sums.total = root_sum(derivatives);
  root.node = add_node(tree, -1, root.sums, finder);
  ranges_[0] = {0, rows_.size()};
  std::vector<OpenNode> level = {root};
  for (int depth = 0; depth < limits_.max_depth && !level.empty(); ++depth) {
    make_histograms(level, derivatives);
    const std::vector<Split> splits = find_splits(level, finder, enabled);
    level = apply(level, splits, finder, tree);
  }
  return tree;
}

void TreeGrower::make_histograms(std::span<const OpenNode> level,
                                 std::span<const PackedDerivatives> derivatives) {
  std::swap(parents_, level_);
  level_.resize(level.size() * own_bins_);
  std::vector<const OpenNode*> built;
  for (const OpenNode& open : level) {
    if (open.is_built) {
      built.push_back(&open);
    }
  }
  const std::size_t bins = bins_.total_bins();
  for (std::size_t begin = 0; begin < built.size(); begin += exchange_.nodes_at_once()) {
    const std::size_t count = std::min(exchange_.nodes_at_once(), built.size() - begin);
    const bool is_alone = world_.size() == 1;
    const std::span<GradientSum> outgoing =
        is_alone ? std::span<GradientSum>() : exchange_.outgoing(count);
    std::vector<std::span<GradientSum>> targets;
    for (std::size_t i = 0; i < count; ++i) {
      const OpenNode& open = *built[begin + i];
      const RowRange& range = ranges_[open.node];
      targets.push_back(histogram(level_, open.slot));
      builder_.build(
          std::span<const std::uint32_t>(rows_).subspan(range.begin, range.end - range.begin),
          derivatives, is_alone ? targets.back() : outgoing.subspan(i * bins, bins));
    }
    if (!is_alone) {
      exchange_.reduce(targets);
    }
  }
  subtract(level);
}

void TreeGrower::subtract(std::span<const OpenNode> level) {
  for (const OpenNode& open : level) {
    if (open.is_built) {
      continue;
    }
    const std::span<GradientSum> parent = histogram(parents_, open.parent_slot);
    const std::span<GradientSum> sibling = histogram(level_, open.sibling_slot);
    const std::span<GradientSum> mine = histogram(level_, open.slot);
    for (std::size_t bin = 0; bin < mine.size(); ++bin) {
      mine[bin] = parent[bin] - sibling[bin];
    }
  }
}

std::vector<Split> TreeGrower::find_splits(std::span<const OpenNode> level,
                                           const SplitFinder& finder,
                                           const std::vector<bool>& enabled) {
  const auto rank = static_cast<std::size_t>(world_.rank());
  const std::span<const std::uint32_t> offsets = bins_.offsets();
  const std::size_t own_begin = offsets[feature_begin_[rank]];
  const std::size_t words = split_words(set_words_);
  std::vector<std::int64_t> mine(level.size() * words);
  std::vector<Split> best(level.size());
  for (std::size_t i = 0; i < level.size(); ++i) {
    const std::span<const GradientSum> sums = histogram(level_, level[i].slot);
    for (std::size_t f = feature_begin_[rank]; f < feature_begin_[rank + 1]; ++f) {
      if (enabled[f]) {
        finder.search(static_cast<int>(f),
                      sums.subspan(offsets[f] - own_begin, offsets[f + 1] - offsets[f]),
                      level[i].sums, best[i]);
      }
    }
    write_split(best[i], std::span<std::int64_t>(mine).subspan(i * words, words));
  }
  if (world_.size() == 1) {
    return best;
  }
  const auto ranks = static_cast<std::size_t>(world_.size());
  std::vector<std::int64_t> all;
  exchange_.gather(mine, all);
  for (std::size_t i = 0; i < level.size(); ++i) {
    best[i] = Split{};
    for (std::size_t r = 0; r < ranks; ++r) {  // ascending features
      Split split = read_split(
          std::span<const std::int64_t>(all).subspan(r * mine.size() + i * words, words));
      if (split.exists() && split.gain > best[i].gain) {
        best[i] = std::move(split);
      }
    }
  }
  return best;
}

std::vector<TreeGrower::OpenNode> TreeGrower::apply(std::span<const OpenNode> level,
                                                    std::span<const Split> splits,
                                                    const SplitFinder& finder, Tree& tree) {
  std::vector<OpenNode> next;
  for (std::size_t i = 0; i < level.size(); ++i) {
    const Split& split = splits[i];
    if (!split.exists()) {
      continue;
    }
    const std::size_t parent = level[i].node;
    const auto [left_sums, right_sums] = finder.children(level[i].sums, split);
    const std::size_t left = add_node(tree, static_cast<int>(parent), left_sums, finder);
    const std::size_t right = add_node(tree, static_cast<int>(parent), right_sums, finder);
    tree.nodes[parent].left = static_cast<int>(left);
    tree.nodes[parent].right = static_cast<int>(right);
    write_node(tree, parent, split);
    const RowRange range = ranges_[parent];
    part_rows(split, range, ranges_[left], ranges_[right]);
    if (!finder.may_split(left_sums) && !finder.may_split(right_sums)) {
      continue;
    }
    const bool left_is_smaller = left_sums.total.count <= right_sums.total.count;
    const std::size_t slot = next.size();
    next.push_back({left, left_sums, slot, left_is_smaller, slot + 1, level[i].slot});
    next.push_back({right, right_sums, slot + 1, !left_is_smaller, slot, level[i].slot});
  }
  return next;
}

std::size_t TreeGrower::add_node(Tree& tree, int parent, const SplitNode& sums,
                                 const SplitFinder& finder) {
  TreeNode node;
  node.parent = parent;
  const double weight = finder.weight(sums);
  node.weight = static_cast<float>(weight);
  node.value = static_cast<float>(weight * limits_.learning_rate);
  node.hessian = finder.hessian(sums.total);
  node.count = sums.total.count;
  tree.nodes.push_back(node);
  ranges_.emplace_back();
  return tree.nodes.size() - 1;
}

void TreeGrower::write_node(Tree& tree, std::size_t index, const Split& split) const {
  TreeNode& node = tree.nodes[index];
  node.feature = split.feature;
  node.default_left = split.default_left;
  node.is_categorical = split.is_categorical;
  node.gain = split.gain;
  const FeatureCuts& cuts = bins_.cuts()[static_cast<std::size_t>(split.feature)];
  if (!split.is_categorical) {
    node.threshold = cuts.threshold(split.bin);
    return;
  }
  // Without the padding that a split on the wire has.
  node.set_begin = static_cast<std::uint32_t>(tree.sets.size());
  node.set_words = static_cast<std::uint32_t>((cuts.num_bins() + 63) / 64);
  tree.sets.insert(tree.sets.end(), split.set.begin(), split.set.begin() + node.set_words);
}

void TreeGrower::part_rows(const Split& split, const RowRange& range, RowRange& left,
                           RowRange& right) {
  const auto feature = static_cast<std::size_t>(split.feature);
  const FeatureCuts& cuts = bins_.cuts()[feature];
  goes_left_.assign(static_cast<std::size_t>(cuts.num_bins()) + 1, split.default_left ? 1 : 0);
  for (int bin = 0; bin < cuts.num_bins(); ++bin) {
    const auto b = static_cast<std::size_t>(bin);
    goes_left_[b] = split.is_categorical ? 1 - (split.set[b / 64] >> (b % 64) & 1U)
                                         : static_cast<std::uint8_t>(bin <= split.bin);
  }
  std::size_t end_left = range.begin;
  std::size_t num_right = 0;
  bins_.visit([&](const auto* data) {
    const auto* const column = data + feature;
    const std::size_t width = bins_.num_features();
    const std::uint8_t* const to_left = goes_left_.data();
    std::uint32_t* const rows = rows_.data();
    std::uint32_t* const others = right_rows_.data();
    for (std::size_t i = range.begin; i < range.end; ++i) {
      const std::uint32_t row = rows[i];
      const std::size_t is_left = to_left[column[row * width]];
      rows[end_left] = row;  // kept when it goes left, else overwritten by the next that does
      others[num_right] = row;
      end_left += is_left;
      num_right += 1 - is_left;
    }
  });
  std::copy_n(right_rows_.begin(), num_right,
              rows_.begin() + static_cast<std::ptrdiff_t>(end_left));
  left = {range.begin, end_left};
  right = {end_left, range.end};
}

}  // namespace superstep::worker
