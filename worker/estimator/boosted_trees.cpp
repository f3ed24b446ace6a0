#include "worker/estimator/boosted_trees.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::worker {

namespace {

constexpr std::uint32_t kHashVersion = 1;

void hash_words(const std::vector<std::string>& words, Hasher& hasher) {
  hasher.update_integer(static_cast<std::uint64_t>(words.size()));
  for (const std::string& word : words) {
    hasher.update_integer(static_cast<std::uint64_t>(word.size()));
    hasher.update(std::string_view(word));
  }
}

// Expected values of a tree's nodes; children stand behind their parents.
std::vector<double> expected_values(const Tree& tree) {
  std::vector<double> expected(tree.nodes.size());
  for (std::size_t i = tree.nodes.size(); i-- > 0;) {
    const TreeNode& node = tree.nodes[i];
    if (node.is_leaf()) {
      expected[i] = static_cast<double>(node.value);
      continue;
    }
    const auto left = static_cast<std::size_t>(node.left);
    const auto right = static_cast<std::size_t>(node.right);
    const double left_weight = tree.nodes[left].hessian;
    const double right_weight = tree.nodes[right].hessian;
    expected[i] = (expected[left] * left_weight + expected[right] * right_weight) /
                  (left_weight + right_weight);
  }
  return expected;
}

}  // namespace

void BoostedTrees::margins(std::span<const float> row, std::span<float> out) const {
  std::fill(out.begin(), out.end(), base_margin(objective, base_score));
  for (std::size_t i = 0; i < trees.size(); ++i) {
    out[i % out.size()] += trees[i].nodes[trees[i].leaf_of(row)].value;
  }
}

Hash128 BoostedTrees::hash() const {
  Hasher hasher;
  hasher.update_integer(kHashVersion);
  hasher.update(name_of(objective));
  hasher.update_integer(std::bit_cast<std::uint64_t>(base_score));
  hash_words({label}, hasher);
  hash_words(classes, hasher);
  for (const ModelFeature& feature : features) {
    hash_words({feature.name, std::string(name_of(feature.kind))}, hasher);
    hash_words(feature.vocabulary, hasher);
  }
  hasher.update_integer(static_cast<std::uint64_t>(trees.size()));
  for (const Tree& tree : trees) {
    hash_tree(tree, hasher);
  }
  return hasher.digest();
}

std::vector<FeatureImportance> feature_importances(const BoostedTrees& model) {
  std::vector<FeatureImportance> importances(model.features.size());
  for (const Tree& tree : model.trees) {
    for (const TreeNode& node : tree.nodes) {
      if (!node.is_leaf()) {
        FeatureImportance& one = importances[static_cast<std::size_t>(node.feature)];
        one.gain += node.gain;
        one.cover += node.hessian;
        ++one.splits;
      }
    }
  }
  return importances;
}

FeatureContributions::FeatureContributions(const BoostedTrees& model) : model_(model) {
  for (const Tree& tree : model.trees) {
    expected_.push_back(expected_values(tree));
  }
}

void FeatureContributions::explain(std::span<const float> row, std::span<double> out) const {
  const auto outputs = static_cast<std::size_t>(model_.num_outputs());
  const std::size_t bias = width() - 1;
  std::fill(out.begin(), out.end(), 0.0);
  for (std::size_t k = 0; k < outputs; ++k) {
    out[k * width() + bias] = static_cast<double>(base_margin(model_.objective, model_.base_score));
  }
  for (std::size_t i = 0; i < model_.trees.size(); ++i) {
    const Tree& tree = model_.trees[i];
    const std::span<double> mine = out.subspan((i % outputs) * width(), width());
    mine[bias] += expected_[i][0];
    std::size_t index = 0;
    while (!tree.nodes[index].is_leaf()) {
      const TreeNode& node = tree.nodes[index];
      const auto feature = static_cast<std::size_t>(node.feature);
      const auto next =
          static_cast<std::size_t>(tree.goes_left(node, row[feature]) ? node.left : node.right);
      mine[feature] += expected_[i][next] - expected_[i][index];
      index = next;
    }
  }
}

std::vector<std::size_t> feature_columns(const BoostedTrees& model, const Table& table) {
  std::vector<std::size_t> columns;
  for (const ModelFeature& feature : model.features) {
    columns.push_back(table.index_of(feature.name, "boosted trees"));
    const ColumnKind kind = table.columns[columns.back()].kind;
    if (kind != feature.kind) {
      throw InvalidArgument("boosted trees",
                            fmt::format("column \"{}\": got a {}, expected a {}", feature.name,
                                        name_of(kind), name_of(feature.kind)));
    }
  }
  return columns;
}

}  // namespace superstep::worker
