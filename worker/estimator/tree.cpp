#include "worker/estimator/tree.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace superstep::worker {

bool Tree::goes_left(const TreeNode& node, float value) const {
  if (std::isnan(value)) {
    return node.default_left;
  }
  return node.is_categorical ? !in_set(node, static_cast<int>(value)) : value < node.threshold;
}

std::size_t Tree::leaf_of(std::span<const float> row) const {
  std::size_t index = 0;
  while (!nodes[index].is_leaf()) {
    const TreeNode& node = nodes[index];
    const bool left = goes_left(node, row[static_cast<std::size_t>(node.feature)]);
    index = static_cast<std::size_t>(left ? node.left : node.right);
  }
  return index;
}

int Tree::num_leaves() const {
  return static_cast<int>(std::count_if(nodes.begin(), nodes.end(),
                                        [](const TreeNode& node) { return node.is_leaf(); }));
}

void hash_tree(const Tree& tree, Hasher& hasher) {
  hasher.update_integer(static_cast<std::uint64_t>(tree.nodes.size()));
  for (const TreeNode& node : tree.nodes) {
    for (const int field : {node.left, node.right, node.feature}) {
      hasher.update_integer(static_cast<std::int32_t>(field));
    }
    hasher.update_integer(
        static_cast<std::uint8_t>((node.default_left ? 1 : 0) | (node.is_categorical ? 2 : 0)));
    hasher.update_integer(std::bit_cast<std::uint32_t>(node.threshold));
    hasher.update_integer(std::bit_cast<std::uint32_t>(node.value));
    hasher.update_integer(node.set_words);
    for (std::uint32_t word = 0; word < node.set_words; ++word) {
      hasher.update_integer(tree.sets[node.set_begin + word]);
    }
  }
}

}  // namespace superstep::worker
