#include "cluster/model_section.h"

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "base/checked_cast.h"
#include "base/text.h"
#include "kernels/shape.h"
#include "worker/model_toml.h"

namespace superstep::cluster {

namespace {

// The inputs that the presets were published with.
kernels::Shape customary_input(std::string_view preset) {
  return preset == "resnet20" ? kernels::Shape{3, 32, 32} : kernels::Shape{1, 28, 28};
}

}  // namespace

std::string layers_text(const toml::table& model) {
  // No layer's text depends on the number of classes: only presets do.
  const worker::Sequential layers = worker::layers_from_toml(model, 2);
  std::ostringstream text;
  text << toml::table{{"model", worker::layers_to_toml(layers)}} << '\n';
  return text.str();
}

std::string preset_complaint(const std::string& preset) {
  const std::vector<std::string> names(worker::preset_names().begin(),
                                       worker::preset_names().end());
  if (preset.empty() || std::find(names.begin(), names.end(), preset) != names.end()) {
    return {};
  }
  return fmt::format(
      "key 'model.preset' has an impossible value: got \"{}\", expected one of \"{}\"{}", preset,
      join(names, "\", \""), did_you_mean(preset, names));
}

worker::Sequential layers_of(const RunConfig& config) {
  const int num_classes = checked_cast<int>(config.data.num_classes);
  if (!config.model.preset.empty()) {
    return worker::preset(config.model.preset, num_classes);
  }
  const toml::table table = toml::parse(config.model.layers);
  const toml::table* model = table["model"].as_table();
  SUPERSTEP_CHECK(model != nullptr, "layers of a configuration that was read");
  return worker::layers_from_toml(*model, num_classes);
}

std::string presets_as_text() {
  constexpr int kClasses = 10;
  std::string text;
  for (const std::string_view name : worker::preset_names()) {
    const kernels::Shape input = customary_input(name);
    const worker::Model model =
        worker::Model::build(worker::preset(name, kClasses), input, kClasses);
    text += fmt::format("{:<20} {:>11} parameters for {} and {} classes\n", name,
                        grouped(model.layout().num_parameters()), input.to_string(), kClasses);
  }
  return text;
}

}  // namespace superstep::cluster
