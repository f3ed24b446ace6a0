// A regression tree: nodes in an array, the root first, children behind their parents.
//
// A row goes left at a node when its value is below the threshold (number), or when its category is
// not in the node's set; a row without a value goes where `default_left` says. NaN is no value, and
// so is a category that the training data did not have.
//
//   const float value = tree.nodes[tree.leaf_of(row)].value;     // row[f]: value of feature f
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/hash.h"

namespace superstep::worker {

struct TreeNode {
  int parent = -1;  // -1: the root
  int left = -1;    // -1: a leaf
  int right = -1;
  int feature = -1;
  bool default_left = false;
  bool is_categorical = false;
  float threshold = 0.0F;       // of a number: left when below
  std::uint32_t set_begin = 0;  // of a category: first word of its set in Tree::sets
  std::uint32_t set_words = 0;  // bit c of the set: category c goes right
  float value = 0.0F;           // of the node as a leaf, shrunk by the learning rate
  float weight = 0.0F;          // the same, not shrunk
  double gain = 0.0;            // of the split; 0 for a leaf
  double hessian = 0.0;         // sum over the node's training rows
  std::int64_t count = 0;       // training rows

  bool is_leaf() const { return left < 0; }
};

struct Tree {
  std::vector<TreeNode> nodes;
  std::vector<std::uint64_t> sets;

  bool in_set(const TreeNode& node, int category) const {
    const auto word = static_cast<std::uint32_t>(category) / 64;
    return word < node.set_words &&
           (sets[node.set_begin + word] >> (static_cast<unsigned>(category) % 64) & 1U) != 0;
  }
  bool goes_left(const TreeNode& node, float value) const;
  // Index of the leaf that a row ends in.
  std::size_t leaf_of(std::span<const float> row) const;
  int num_leaves() const;
};

// Adds what predictions depend on: structure, thresholds, sets, values. Not gains and counts.
void hash_tree(const Tree& tree, Hasher& hasher);

}  // namespace superstep::worker
