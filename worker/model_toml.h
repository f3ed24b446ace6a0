// Models in configuration files.
//
//   [model]                                   [[model.layers]]
//   preset = "mcmahan_cnn"            or      kind = "conv2d"
//                                             filters = 32
//                                             padding = "same"
//
// The kinds are those of kind_of(), the keys the members of the layer's struct with their defaults;
// a residual layer has `body`, an array of layers. Everything wrong is an InvalidArgument with
// "file:line" where the table came from a file, the layer's path and, for unknown names, the
// nearest known one.
//
//   Sequential layers = layers_from_toml(*config["model"].as_table(), num_classes);
#pragma once

#include <toml++/toml.h>

#include "worker/layers.h"

namespace superstep::worker {

// `model` is the table [model]: exactly one of `preset` (of num_classes classes) and `layers`.
Sequential layers_from_toml(const toml::table& model, int num_classes);

// The table [model] with every layer and every member written out, for the resolved configuration.
// layers_from_toml gives the same layers back.
toml::table layers_to_toml(const Sequential& layers);

}  // namespace superstep::worker
