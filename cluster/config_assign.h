// One TOML value into one field of a configuration, checked against the field's row in the table of
// keys.
#pragma once

#include <string>

#include <toml++/toml.h>

#include "cluster/config_keys.h"

namespace superstep::cluster {

// Stores the value; or returns what is wrong with it, in words, and leaves the field alone.
std::string assign(const Key& key, const toml::node& node, RunConfig& config);

// For messages: `"ten" (a string)`.
std::string describe_value(const toml::node& node);

}  // namespace superstep::cluster
