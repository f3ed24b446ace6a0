// The table of keys: name, type, range, help and place of every configuration value.
//
// One row per key. Types and defaults are those of the field in RunConfig that the row points to,
// so a row cannot disagree with the code. Reading, writing, `superstep keys` and the reference page
// all walk this table; a new key is one field and one row.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cluster/config.h"

namespace superstep::cluster {

// An interval of numbers; NaN is never inside. For lists it holds for each element.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_included = true;
  bool high_included = true;

  bool contains(double value) const;
  std::string to_string() const;  // "at least 1", "in [0, 1)"
};

// Whether a resumed run may have another value. Such keys do not decide what an update computes.
enum class OnResume : std::uint8_t { kMustEqual, kMayChange };

template <typename T>
using FieldOf = T& (*)(RunConfig&);

using Field =
    std::variant<FieldOf<std::int64_t>, FieldOf<double>, FieldOf<bool>, FieldOf<std::string>,
                 FieldOf<std::vector<std::int64_t>>, FieldOf<std::vector<double>>>;

struct Key {
  std::string_view path;  // "optimizer.schedule.kind"
  Field field;
  Range range;
  std::vector<std::string_view> choices;  // texts only; empty: any
  std::string_view help;                  // one line, without a full stop
  OnResume on_resume = OnResume::kMustEqual;
};

std::span<const Key> config_keys();
std::vector<Key> server_keys();              // the part of the table in config_keys_server.cpp
std::vector<Key> federated_keys();           // in config_keys_federated.cpp
std::vector<Key> federated_time_keys();      // and in config_keys_federated_time.cpp
const Key* find_key(std::string_view path);  // nullptr when there is none

std::string_view type_name(const Key& key);  // "integer", "list of integers", ...
// What a value must be: "an integer, at least 1" or "one of \"idx\", \"synthetic\"".
std::string expectation(const Key& key);
// The value of a key in a configuration, as TOML.
std::string value_text(const Key& key, const RunConfig& config);

// A reference of all keys for people: plain text for a terminal, or a Markdown table per section.
std::string keys_as_text();
std::string keys_as_markdown();

}  // namespace superstep::cluster
