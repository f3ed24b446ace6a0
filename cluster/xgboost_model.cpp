#include "cluster/xgboost_model.h"

#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/hash.h"

namespace superstep::cluster {

namespace {

using TreeJson = nlohmann::ordered_json;

constexpr int kNoParent = std::numeric_limits<int>::max();

std::string_view xgboost_objective(worker::Objective objective) {
  switch (objective) {
    case worker::Objective::kBinaryLogistic:
      return "binary:logistic";
    case worker::Objective::kMulticlass:
      return "multi:softprob";
    case worker::Objective::kSquaredError:
      break;
  }
  return "reg:squarederror";
}

// The sets of the nodes that split categories, one behind the other.
void add_categories(const worker::Tree& tree, TreeJson& json) {
  TreeJson categories = TreeJson::array();
  TreeJson nodes = TreeJson::array();
  TreeJson segments = TreeJson::array();
  TreeJson sizes = TreeJson::array();
  for (std::size_t i = 0; i < tree.nodes.size(); ++i) {
    const worker::TreeNode& node = tree.nodes[i];
    if (node.is_leaf() || !node.is_categorical) {
      continue;
    }
    const std::size_t begin = categories.size();
    for (int category = 0; category < static_cast<int>(node.set_words) * 64; ++category) {
      if (tree.in_set(node, category)) {
        categories.push_back(category);
      }
    }
    nodes.push_back(i);
    segments.push_back(begin);
    sizes.push_back(categories.size() - begin);
  }
  json["categories"] = std::move(categories);
  json["categories_nodes"] = std::move(nodes);
  json["categories_segments"] = std::move(segments);
  json["categories_sizes"] = std::move(sizes);
}

void add_node(const worker::TreeNode& node, TreeJson& json) {
  json["base_weights"].push_back(node.weight);
  json["default_left"].push_back(node.default_left ? 1 : 0);
  json["left_children"].push_back(node.left);
  json["loss_changes"].push_back(static_cast<float>(node.gain));
  json["parents"].push_back(node.parent < 0 ? kNoParent : node.parent);
  json["right_children"].push_back(node.right);
  json["split_conditions"].push_back(node.is_leaf() ? node.value : node.threshold);
  json["split_indices"].push_back(node.is_leaf() ? 0 : node.feature);
  json["split_type"].push_back(node.is_categorical ? 1 : 0);
  json["sum_hessian"].push_back(static_cast<float>(node.hessian));
}

TreeJson tree_json(const worker::Tree& tree, std::size_t id, std::size_t num_features) {
  TreeJson json;
  for (const char* key :
       {"base_weights", "default_left", "left_children", "loss_changes", "parents",
        "right_children", "split_conditions", "split_indices", "split_type", "sum_hessian"}) {
    json[key] = TreeJson::array();
  }
  add_categories(tree, json);
  json["id"] = id;
  for (const worker::TreeNode& node : tree.nodes) {
    add_node(node, json);
  }
  json["tree_param"] = {{"num_deleted", "0"},
                        {"num_feature", fmt::format("{}", num_features)},
                        {"num_nodes", fmt::format("{}", tree.nodes.size())},
                        {"size_leaf_vector", "0"}};
  return json;
}

TreeJson booster_json(const worker::BoostedTrees& model) {
  TreeJson trees = TreeJson::array();
  TreeJson outputs = TreeJson::array();
  for (std::size_t i = 0; i < model.trees.size(); ++i) {
    trees.push_back(tree_json(model.trees[i], i, model.features.size()));
    outputs.push_back(i % static_cast<std::size_t>(model.num_outputs()));
  }
  TreeJson json;
  json["model"]["gbtree_model_param"] = {{"num_parallel_tree", "1"},
                                         {"num_trees", fmt::format("{}", model.trees.size())},
                                         {"size_leaf_vector", "0"}};
  json["model"]["tree_info"] = std::move(outputs);
  json["model"]["trees"] = std::move(trees);
  json["name"] = "gbtree";
  return json;
}

TreeJson objective_json(const worker::BoostedTrees& model) {
  TreeJson json;
  json["name"] = xgboost_objective(model.objective);
  if (model.objective == worker::Objective::kMulticlass) {
    json["softmax_multiclass_param"] = {{"num_class", fmt::format("{}", model.num_outputs())}};
  } else {
    json["reg_loss_param"] = {{"scale_pos_weight", "1"}};
  }
  return json;
}

// What XGBoost has no place for.
std::string own_attribute(const worker::BoostedTrees& model) {
  TreeJson json;
  json["model_hash"] = to_text(model.hash());
  json["label"] = model.label;
  json["classes"] = model.classes;
  TreeJson vocabularies = TreeJson::object();
  for (const worker::ModelFeature& feature : model.features) {
    if (feature.kind == worker::ColumnKind::kCategory) {
      vocabularies[feature.name] = feature.vocabulary;
    }
  }
  json["vocabularies"] = std::move(vocabularies);
  return json.dump();
}

}  // namespace

std::string xgboost_json(const worker::BoostedTrees& model) {
  TreeJson names = TreeJson::array();
  TreeJson types = TreeJson::array();
  for (const worker::ModelFeature& feature : model.features) {
    names.push_back(feature.name);
    types.push_back(feature.kind == worker::ColumnKind::kCategory ? "c" : "float");
  }
  const bool is_multiclass = model.objective == worker::Objective::kMulticlass;
  TreeJson json;
  TreeJson& learner = json["learner"];
  learner["attributes"] = {{"superstep", own_attribute(model)}};
  learner["feature_names"] = std::move(names);
  learner["feature_types"] = std::move(types);
  learner["gradient_booster"] = booster_json(model);
  learner["learner_model_param"] = {
      {"base_score", fmt::format("{}", static_cast<float>(model.base_score))},
      {"num_class", fmt::format("{}", is_multiclass ? model.num_outputs() : 0)},
      {"num_feature", fmt::format("{}", model.features.size())},
      {"num_target", "1"}};
  learner["objective"] = objective_json(model);
  json["version"] = {1, 7, 4};
  return json.dump();
}

}  // namespace superstep::cluster
