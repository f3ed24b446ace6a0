#include "worker/federated/personalization.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "base/text.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

constexpr auto kPersonalization = "PersonalizationOptions";

// "residual3/conv1/weight" -> "residual3/conv1".
std::string layer_of(const paramserver::LayoutEntry& entry) {
  return entry.name.substr(0, std::min(entry.name.rfind('/'), entry.name.size()));
}

// In the order of the layout, each once.
std::vector<std::string> layers_of_layout(const paramserver::ParameterLayout& layout) {
  std::vector<std::string> layers;
  for (const paramserver::LayoutEntry& entry : layout.entries()) {
    if (layers.empty() || layers.back() != layer_of(entry)) {
      layers.push_back(layer_of(entry));
    }
  }
  return layers;
}

bool is_within(std::string_view layer, std::string_view name) {
  return layer == name || (layer.size() > name.size() && layer.substr(0, name.size()) == name &&
                           layer[name.size()] == '/');
}

std::set<std::string> personal_layers(const std::vector<std::string>& layers,
                                      const PersonalizationOptions& options) {
  if (options.kind != PersonalizationKind::kFedPer) {
    return {};
  }
  if (options.layer_names.empty()) {
    const std::size_t count = std::min(layers.size(), as_size(options.layers));
    return {layers.end() - static_cast<std::ptrdiff_t>(count), layers.end()};
  }
  std::set<std::string> personal;
  for (const std::string& name : options.layer_names) {
    const std::size_t before = personal.size();
    std::size_t found = 0;
    for (const std::string& layer : layers) {
      if (is_within(layer, name)) {
        personal.insert(layer);
        ++found;
      }
    }
    if (found == 0) {
      throw InvalidArgument(kPersonalization,
                            fmt::format("layer_names: no layer with parameters is called "
                                        "\"{}\"{} (there are: {})",
                                        name, did_you_mean(name, layers), join(layers)));
    }
    if (personal.size() == before) {
      throw InvalidArgument(kPersonalization,
                            fmt::format("layer_names: \"{}\" is named twice", name));
    }
  }
  return personal;
}

enum class Belongs : std::uint8_t { kClient, kEverybody };

std::vector<paramserver::LayoutEntry> entries_that(Belongs to,
                                                   const paramserver::ParameterLayout& layout,
                                                   const PersonalizationOptions& options) {
  const std::vector<std::string> layers = layers_of_layout(layout);
  const std::set<std::string> personal = personal_layers(layers, options);
  std::vector<paramserver::LayoutEntry> chosen;
  std::int64_t averaged = 0;
  for (const paramserver::LayoutEntry& entry : layout.entries()) {
    const bool is_personal = personal.contains(layer_of(entry));
    if (is_personal == (to == Belongs::kClient)) {
      chosen.push_back(entry);
    }
    if (!is_personal && entry.role == paramserver::EntryRole::kTrainable) {
      averaged += entry.num_elements();
    }
  }
  if (averaged == 0) {
    throw InvalidArgument(kPersonalization,
                          fmt::format("all layers would be personal, none would be averaged: got "
                                      "{} of {} layers with parameters ({})",
                                      personal.size(), layers.size(), join(layers)));
  }
  return chosen;
}

}  // namespace

std::string_view name_of(PersonalizationKind kind) {
  switch (kind) {
    case PersonalizationKind::kNone:
      return "none";
    case PersonalizationKind::kDitto:
      return "ditto";
    case PersonalizationKind::kFedPer:
      return "fedper";
    case PersonalizationKind::kFineTune:
      return "fine_tune";
  }
  return "unknown";
}

void validate(const PersonalizationOptions& options) {
  require_field(kPersonalization, options.lambda >= 0.0, "lambda", options.lambda,
                "a number of at least 0");
  require_field(kPersonalization, options.learning_rate >= 0.0, "learning_rate",
                options.learning_rate, "a number of at least 0");
  require_field(kPersonalization, options.epochs >= 1, "epochs",
                static_cast<double>(options.epochs), "at least 1");
  require_field(kPersonalization, options.layers >= 0, "layers",
                static_cast<double>(options.layers), "at least 0");
}

bool has_personal_state(PersonalizationKind kind) {
  return kind == PersonalizationKind::kDitto || kind == PersonalizationKind::kFedPer;
}

std::vector<paramserver::LayoutEntry> personal_entries(const paramserver::ParameterLayout& layout,
                                                       const PersonalizationOptions& options) {
  return entries_that(Belongs::kClient, layout, options);
}

std::vector<paramserver::LayoutEntry> shared_entries(const paramserver::ParameterLayout& layout,
                                                     const PersonalizationOptions& options) {
  return entries_that(Belongs::kEverybody, layout, options);
}

}  // namespace superstep::worker
