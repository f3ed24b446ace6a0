#include "worker/model_toml.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "worker/layer_fields.h"
#include "worker/model.h"

namespace superstep::worker {

namespace {

// "model.toml:12: ", "line 12: ", or nothing for values that no file holds.
std::string location_of(const toml::source_region& source) {
  if (!source.begin) {
    return {};
  }
  return source.path ? fmt::format("{}:{}: ", *source.path, source.begin.line)
                     : fmt::format("line {}: ", source.begin.line);
}

[[noreturn]] void fail(const toml::source_region& source, std::string_view path,
                       const std::string& what) {
  throw InvalidArgument("layers_from_toml",
                        fmt::format("{}{}: {}", location_of(source), path, what));
}

std::string_view type_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a float";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

std::string unknown(std::string_view what, std::string_view name,
                    const std::vector<std::string>& known) {
  return fmt::format("unknown {} \"{}\"{} (known: {})", what, name, did_you_mean(name, known),
                     join(known));
}

void check_keys(const toml::table& table, std::string_view path,
                const std::vector<std::string>& known) {
  for (const auto& [key, value] : table) {
    if (std::find(known.begin(), known.end(), key.str()) == known.end()) {
      fail(key.source(), path, unknown("key", key.str(), known));
    }
  }
}

std::vector<Layer> read_list(const toml::node& node, const std::string& path, int nesting);

// Reads one member of a layer; missing keys keep the default.
class FieldReader {
 public:
  FieldReader(const toml::table& table, const std::string& path, int nesting)
      : table_(table), path_(path), nesting_(nesting) {}

  template <typename T>
  void operator()(std::string_view name, T& member) const {
    if (const toml::node* node = table_.get(name)) {
      read(*node, name, member);
    }
  }

 private:
  [[noreturn]] void wrong_type(const toml::node& node, std::string_view name,
                               std::string_view expected) const {
    fail(node.source(), path_,
         fmt::format("{}: got {}, expected {}", name, type_of(node), expected));
  }

  void read(const toml::node& node, std::string_view name, std::int64_t& member) const {
    if (!node.is_integer()) {
      wrong_type(node, name, "an integer");
    }
    member = node.as_integer()->get();
  }
  void read(const toml::node& node, std::string_view name, double& member) const {
    if (!node.is_number()) {
      wrong_type(node, name, "a number");
    }
    member = *node.value<double>();
  }
  void read(const toml::node& node, std::string_view name, bool& member) const {
    if (!node.is_boolean()) {
      wrong_type(node, name, "true or false");
    }
    member = node.as_boolean()->get();
  }
  void read(const toml::node& node, std::string_view name, Initializer& member) const {
    member = read_name<Initializer>(node, name, kInitializers);
  }
  void read(const toml::node& node, std::string_view name, Padding& member) const {
    member = read_name<Padding>(node, name, kPaddings);
  }
  void read(const toml::node& node, std::string_view name, std::vector<Layer>& member) const {
    member = read_list(node, fmt::format("{}.{}", path_, name), nesting_ + 1);
  }

  template <typename Enum>
  Enum read_name(const toml::node& node, std::string_view name,
                 std::span<const Enum> values) const {
    if (!node.is_string()) {
      wrong_type(node, name, "a string");
    }
    std::vector<std::string> known;
    for (const Enum value : values) {
      known.emplace_back(name_of(value));
      if (known.back() == node.as_string()->get()) {
        return value;
      }
    }
    fail(node.source(), path_, unknown(name, node.as_string()->get(), known));
  }

  const toml::table& table_;
  const std::string& path_;
  int nesting_;
};

// The layer with default members of the given kind. Kinds are tried in the order of the variant.
template <std::size_t... I>
Layer layer_of_kind(std::string_view kind, std::index_sequence<I...> /*alternatives*/) {
  Layer layer;
  static_cast<void>(((kLayerKinds[I] == kind && (layer.emplace<I>(), true)) || ...));
  return layer;
}

Layer read_kind(const toml::table& table, const std::string& path) {
  const toml::node* kind = table.get("kind");
  if (kind == nullptr) {
    fail(table.source(), path, "missing key \"kind\"");
  }
  if (!kind->is_string()) {
    fail(kind->source(), path, fmt::format("kind: got {}, expected a string", type_of(*kind)));
  }
  const std::string& name = kind->as_string()->get();
  const std::vector<std::string> known(kLayerKinds.begin(), kLayerKinds.end());
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    fail(kind->source(), path, unknown("kind of layer", name, known));
  }
  return layer_of_kind(name, std::make_index_sequence<kLayerKinds.size()>());
}

Layer read_layer(const toml::node& node, const std::string& path, int nesting) {
  const toml::table* table = node.as_table();
  if (table == nullptr) {
    fail(node.source(), path, fmt::format("got {}, expected a table", type_of(node)));
  }
  Layer layer = read_kind(*table, path);
  const std::string named = fmt::format("{} ({})", path, kind_of(layer));
  std::vector<std::string> keys{"kind"};
  // A layer with default members says which one has to be given: the one it finds wrong.
  const std::string unfilled = problem_with(layer);
  const std::string required = unfilled.substr(0, unfilled.find(':'));
  std::visit(
      [&](auto& alternative) {
        visit_fields(alternative, [&](std::string_view name, auto&) { keys.emplace_back(name); });
        check_keys(*table, named, keys);
        if (!required.empty() && !table->contains(required)) {
          fail(table->source(), named, fmt::format("missing key \"{}\"", required));
        }
        visit_fields(alternative, FieldReader(*table, named, nesting));
      },
      layer);
  if (const std::string problem = problem_with(layer); !problem.empty()) {
    fail(table->source(), named, problem);
  }
  return layer;
}

std::vector<Layer> read_list(const toml::node& node, const std::string& path, int nesting) {
  const toml::array* array = node.as_array();
  if (array == nullptr) {
    fail(node.source(), path, fmt::format("got {}, expected an array of layers", type_of(node)));
  }
  if (nesting > kMaxNesting) {
    fail(node.source(), path,
         fmt::format("residual layers are nested more than {} deep", kMaxNesting));
  }
  std::vector<Layer> layers;
  for (const toml::node& element : *array) {
    layers.push_back(read_layer(element, fmt::format("{}[{}]", path, layers.size()), nesting));
  }
  return layers;
}

toml::array write_list(const std::vector<Layer>& layers);

class FieldWriter {
 public:
  explicit FieldWriter(toml::table& table) : table_(table) {}

  template <typename T>
  void operator()(std::string_view name, const T& member) const {
    if constexpr (std::is_enum_v<T>) {
      table_.insert(name, std::string(name_of(member)));
    } else if constexpr (std::is_same_v<T, std::vector<Layer>>) {
      table_.insert(name, write_list(member));
    } else {
      table_.insert(name, member);
    }
  }

 private:
  toml::table& table_;
};

toml::array write_list(const std::vector<Layer>& layers) {
  toml::array array;
  for (const Layer& layer : layers) {
    toml::table table;
    table.insert("kind", std::string(kind_of(layer)));
    std::visit([&](const auto& alternative) { visit_fields(alternative, FieldWriter(table)); },
               layer);
    array.push_back(std::move(table));
  }
  return array;
}

}  // namespace

Sequential layers_from_toml(const toml::table& model, int num_classes) {
  check_keys(model, "model", {"preset", "layers"});
  const toml::node* name = model.get("preset");
  const toml::node* layers = model.get("layers");
  if ((name == nullptr) == (layers == nullptr)) {
    fail(model.source(), "model",
         fmt::format("got {} of \"preset\" and \"layers\", expected one of them",
                     name == nullptr ? "neither" : "both"));
  }
  if (layers != nullptr) {
    return Sequential(read_list(*layers, "model.layers", 0));
  }
  if (!name->is_string()) {
    fail(name->source(), "model.preset", fmt::format("got {}, expected a string", type_of(*name)));
  }
  const std::vector<std::string> known(preset_names().begin(), preset_names().end());
  const std::string& text = name->as_string()->get();
  if (std::find(known.begin(), known.end(), text) == known.end()) {
    fail(name->source(), "model.preset", unknown("preset", text, known));
  }
  return preset(text, num_classes);
}

toml::table layers_to_toml(const Sequential& layers) {
  toml::table table;
  table.insert("layers", write_list(layers.layers));
  return table;
}

}  // namespace superstep::worker
