// Reads a run's configuration: a TOML file, then the command line's section.key=value on top.
//
//   ParsedConfig parsed = read_config("examples/fashion_mnist_mlp.toml", {"train.epochs=2"});
//   if (!parsed.problems.empty()) { ... print them all ... }
//
// Every problem of the file and of the overrides is found in one go and named with its place:
//
//   run.toml:7:1: key 'train.epoch' is unknown; did you mean 'train.epochs'?
//   run.toml:9:16: key 'train.global_batch' is out of range: got 0, expected an integer, in [1,
//   ...]
//   --set optimizer.kind=adamm: key 'optimizer.kind' has an impossible value: got "adamm", ...
//
// An override's value is TOML (2, 0.5, true, [30, 60], "text"); a bare word or path is taken as a
// string.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/config.h"

namespace superstep::cluster {

struct ParsedConfig {
  RunConfig config;
  std::vector<std::string> problems;  // empty: `config` is complete and free of contradictions
  // Key path to where its value was given, when it was; each layer has a path of its own:
  // "model.layers[2].body[0]".
  std::map<std::string, std::string> places;

  // "run.toml:7:1: " or "" for a key that has its default.
  std::string place_of(const std::string& path) const;
};

// `file_name` is what messages call the text.
ParsedConfig parse_config(std::string_view text, const std::string& file_name,
                          std::span<const std::string> overrides = {});

// A file that is missing or unreadable is a problem like any other.
ParsedConfig read_config(const std::filesystem::path& file,
                         std::span<const std::string> overrides = {});

// Throws InvalidArgument that lists the problems, one a line; returns the configuration when there
// are none.
const RunConfig& require_valid(const ParsedConfig& parsed);

}  // namespace superstep::cluster
