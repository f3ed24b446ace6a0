#include "worker/model.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/text.h"
#include "worker/model_node.h"

namespace superstep::worker {

namespace {

using paramserver::EntryRole;
using paramserver::LayoutEntry;

struct Row {
  std::string layer;
  std::string output;
  std::string parameters;
};

std::int64_t own_parameters(const Model::Node& node, std::span<const LayoutEntry> entries) {
  std::int64_t count = 0;
  for (int i = node.first_entry; i < node.first_entry + node.num_entries; ++i) {
    const LayoutEntry& entry = entries[static_cast<std::size_t>(i)];
    count += entry.role == EntryRole::kTrainable ? entry.num_elements() : 0;
  }
  return count;
}

void append_rows(const Nodes& nodes, std::span<const LayoutEntry> entries,
                 const std::string& indentation, std::vector<Row>& rows) {
  for (const auto& node : nodes) {
    const std::int64_t parameters = own_parameters(*node, entries);
    rows.push_back({.layer = indentation + node->name,
                    .output = node->output.to_string(),
                    .parameters = parameters == 0 ? "" : grouped(parameters)});
    append_rows(node->body, entries, indentation + "  ", rows);
  }
}

}  // namespace

Model Model::build(const Sequential& layers, const kernels::Shape& sample_shape, int num_classes) {
  BuiltNodes built = build_nodes(layers, sample_shape, num_classes);
  Model model;
  model.layers_ = layers;
  model.nodes_ = std::move(built.nodes);
  model.layout_ = std::move(built.layout);
  model.initializers_ = std::move(built.initializers);
  model.sample_shape_ = sample_shape;
  model.num_classes_ = num_classes;
  model.has_dropout_ = built.has_dropout;
  return model;
}

bool Model::has_statistics() const {
  const auto entries = layout_.entries();
  return std::any_of(entries.begin(), entries.end(),
                     [](const LayoutEntry& entry) { return entry.role == EntryRole::kStatistic; });
}

std::string Model::summary() const {
  std::vector<Row> rows{{.layer = "layer", .output = "output", .parameters = "parameters"},
                        {.layer = "input", .output = sample_shape_.to_string(), .parameters = ""}};
  append_rows(nodes_, layout_.entries(), "", rows);
  rows.push_back({.layer = "total", .output = "", .parameters = grouped(layout_.num_parameters())});
  std::size_t layer_width = 0;
  std::size_t output_width = 0;
  std::size_t parameters_width = 0;
  for (const Row& row : rows) {
    layer_width = std::max(layer_width, row.layer.size());
    output_width = std::max(output_width, row.output.size());
    parameters_width = std::max(parameters_width, row.parameters.size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line = fmt::format("{:<{}}  {:<{}}  {:>{}}", row.layer, layer_width, row.output,
                                   output_width, row.parameters, parameters_width);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

void Model::initialize(std::uint64_t seed, std::span<float> buffer) const {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(buffer.size()) == layout_.size(), "parameter buffer",
                  buffer.size(), layout_.size());
  std::fill(buffer.begin(), buffer.end(), 0.0F);
  const auto entries = layout_.entries();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    fill_entry(initializers_[i], seed, static_cast<int>(i),
               buffer.subspan(static_cast<std::size_t>(entries[i].offset),
                              static_cast<std::size_t>(entries[i].num_elements())));
  }
}

}  // namespace superstep::worker
