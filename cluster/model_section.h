// The [model] section: a preset by name or a list of layers.
#pragma once

#include <string>

#include <toml++/toml.h>

#include "cluster/config.h"
#include "worker/model.h"

namespace superstep::cluster {

// The [[model.layers]] of the [model] table in the worker's own wording, so that equal models have
// equal text. Throws InvalidArgument with file and line.
std::string layers_text(const toml::table& model);

// What is wrong with a preset's name, or nothing (an empty name is no preset).
std::string preset_complaint(const std::string& preset);

// The layers of a valid configuration.
worker::Sequential layers_of(const RunConfig& config);

// One line per preset for `superstep models`: name, layers, parameters for its customary input.
std::string presets_as_text();

}  // namespace superstep::cluster
