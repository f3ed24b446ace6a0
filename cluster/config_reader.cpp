#include "cluster/config_reader.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "cluster/bounded_toml.h"
#include "cluster/config_assign.h"
#include "cluster/config_keys.h"
#include "cluster/model_section.h"

namespace superstep::cluster {

namespace {

constexpr std::int64_t kMaxConfigBytes = 1 << 20;  // a megabyte: larger than any configuration

std::string joined(std::string_view prefix, std::string_view name) {
  return prefix.empty() ? std::string(name) : fmt::format("{}.{}", prefix, name);
}

bool is_section(std::string_view path) {
  const std::string prefix = fmt::format("{}.", path);
  return std::any_of(config_keys().begin(), config_keys().end(),
                     [&](const Key& key) { return key.path.substr(0, prefix.size()) == prefix; });
}

// The nearest known path, or the known key of that name in another section.
std::string suggestion(const std::string& path, bool wants_section) {
  std::vector<std::string> candidates;
  const std::string name = path.substr(path.rfind('.') + 1);
  std::string elsewhere;
  for (const Key& key : config_keys()) {
    const std::size_t dot = key.path.rfind('.');
    candidates.emplace_back(key.path.substr(0, wants_section ? dot : key.path.size()));
    if (!wants_section && key.path.substr(dot + 1) == name && elsewhere.empty()) {
      elsewhere = key.path;
    }
  }
  if (!wants_section) {
    candidates.emplace_back("model.layers");
  }
  const std::string nearest =
      elsewhere.empty() ? nearest_name(path, candidates).value_or("") : elsewhere;
  return nearest.empty() ? std::string() : fmt::format("; did you mean '{}'?", nearest);
}

class Reader {
 public:
  explicit Reader(ParsedConfig& parsed) : parsed_(parsed) {}

  void read_file(const toml::table& table, const std::string& file_name) {
    file_name_ = file_name;
    walk(table, "");
  }

  void read_override(const std::string& text);

 private:
  void walk(const toml::table& table, const std::string& prefix);
  void take(const std::string& path, const toml::node& node,
            const toml::source_position& key_position);
  void take_layers(const toml::table& model, const toml::source_position& key_position);
  void note_layers(const toml::node& list, const std::string& path);
  void take_value(const Key& key, const toml::node& node);
  void take_override(const std::string& path, const toml::table& holder);

  std::string place(const toml::source_position& position) const {
    return override_.empty() ? fmt::format("{}:{}:{}", file_name_, position.line, position.column)
                             : fmt::format("--set {}", override_);
  }
  void complain(const toml::source_position& position, const std::string& what) {
    parsed_.problems.push_back(fmt::format("{}: {}", place(position), what));
  }

  ParsedConfig& parsed_;
  std::string file_name_;
  std::string override_;                           // the text of the override being read
  std::map<std::string, std::string> overridden_;  // path to the override that gave it
};

void Reader::walk(const toml::table& table, const std::string& prefix) {
  for (const auto& [name, node] : table) {
    const std::string path = joined(prefix, name.str());
    if (path == "model.layers") {
      take_layers(table, name.source().begin);
    } else {
      take(path, node, name.source().begin);
    }
  }
}

void Reader::take(const std::string& path, const toml::node& node,
                  const toml::source_position& key_position) {
  if (const Key* key = find_key(path)) {
    take_value(*key, node);
  } else if (path == "model.layers") {
    complain(key_position, "layers cannot be given on the command line: use a file");
  } else if (is_section(path)) {
    if (const toml::table* section = node.as_table()) {
      walk(*section, path);
    } else {
      complain(key_position, fmt::format("'{}' is a section: got {}, expected a table", path,
                                         describe_value(node)));
    }
  } else {
    const bool section = node.is_table();
    complain(key_position, fmt::format("{} '{}' is unknown{}", section ? "section" : "key", path,
                                       suggestion(path, section)));
  }
}

void Reader::take_layers(const toml::table& model, const toml::source_position& key_position) {
  parsed_.places["model.layers"] = place(key_position);
  try {
    parsed_.config.model.layers = layers_text(model);
    note_layers(*model.get("layers"), "model.layers");
  } catch (const InvalidArgument& error) {
    parsed_.problems.push_back(error.what());
  }
}

// Where each layer stands: "model.layers[2]", "model.layers[2].body[0]". The list was read before.
void Reader::note_layers(const toml::node& list, const std::string& path) {
  std::size_t index = 0;
  for (const toml::node& layer : *list.as_array()) {
    const std::string name = fmt::format("{}[{}]", path, index++);
    parsed_.places[name] = place(layer.source().begin);
    if (const toml::node* body = layer.as_table()->get("body")) {
      note_layers(*body, name + ".body");
    }
  }
}

void Reader::take_value(const Key& key, const toml::node& node) {
  const std::string path(key.path);
  if (!override_.empty()) {
    const auto [entry, is_new] = overridden_.emplace(path, override_);
    if (!is_new) {
      complain({}, fmt::format("key '{}' is given twice: also by --set {}", path, entry->second));
      return;
    }
  }
  parsed_.places[path] = place(node.source().begin);
  if (const std::string complaint = assign(key, node, parsed_.config); !complaint.empty()) {
    complain(node.source().begin, complaint);
  }
}

// A value that was meant as a number, whether TOML takes it for one or not.
bool is_numeric(const std::string& text) {
  return text.find_first_not_of("0123456789+-._eE") == std::string::npos &&
         text.find_first_of("0123456789") <= 1;
}

// A value that is no TOML but reads as a word or a path.
bool is_bare_text(const std::string& text) {
  return !text.empty() && !is_numeric(text) &&
         text.find_first_of("\"'[]{}=#,\n\r\t ") == std::string::npos;
}

void Reader::read_override(const std::string& text) {
  override_ = text;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    complain({}, "expected section.key=value");
    return;
  }
  const std::string path = text.substr(0, equals);
  const std::string value = text.substr(equals + 1);
  if (value.find('\n') != std::string::npos) {
    complain({}, "a value on the command line is one line");
    return;
  }
  try {
    take_override(path, parse_bounded_toml(fmt::format("value = {}", value)));
  } catch (const toml::parse_error& error) {
    if (is_bare_text(value)) {
      take_override(path, toml::table{{"value", value}});
    } else {
      complain({}, fmt::format("the value is not TOML: {}", error.description()));
    }
  }
}

void Reader::take_override(const std::string& path, const toml::table& holder) {
  take(path, *holder.get("value"), {});
}

void add_contradictions(ParsedConfig& parsed, const std::string& file_name) {
  for (const auto& [path, what] : contradictions(parsed.config)) {
    const std::string place = parsed.place_of(path);
    parsed.problems.push_back(place.empty() ? fmt::format("{}: {}", file_name, what)
                                            : fmt::format("{}{}", place, what));
  }
}

}  // namespace

std::string ParsedConfig::place_of(const std::string& path) const {
  const auto found = places.find(path);
  return found == places.end() ? std::string() : found->second + ": ";
}

ParsedConfig parse_config(std::string_view text, const std::string& file_name,
                          std::span<const std::string> overrides) {
  ParsedConfig parsed;
  Reader reader(parsed);
  try {
    reader.read_file(parse_bounded_toml(text, file_name), file_name);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    parsed.problems.push_back(fmt::format("{}:{}:{}: this is not TOML: {}", file_name, at.line,
                                          at.column, error.description()));
    return parsed;
  }
  for (const std::string& text_of_override : overrides) {
    reader.read_override(text_of_override);
  }
  if (const std::string complaint = preset_complaint(parsed.config.model.preset);
      !complaint.empty()) {
    parsed.problems.push_back(parsed.place_of("model.preset") + complaint);
  }
  if (parsed.problems.empty()) {
    // Contradictions between values that are wrong by themselves would only repeat the complaints.
    add_contradictions(parsed, file_name);
  }
  return parsed;
}

ParsedConfig read_config(const std::filesystem::path& file,
                         std::span<const std::string> overrides) {
  try {
    return parse_config(read_text_file(file, kMaxConfigBytes), file.string(), overrides);
  } catch (const DataError& error) {
    ParsedConfig parsed;
    parsed.problems.push_back(error.what());
    return parsed;
  }
}

const RunConfig& require_valid(const ParsedConfig& parsed) {
  if (!parsed.problems.empty()) {
    throw InvalidArgument(
        "configuration",
        fmt::format("{} problem{}:\n  {}", parsed.problems.size(),
                    parsed.problems.size() == 1 ? "" : "s", fmt::join(parsed.problems, "\n  ")));
  }
  return parsed.config;
}

}  // namespace superstep::cluster
