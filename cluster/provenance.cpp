#include "cluster/provenance.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/error_detail.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json_integer.h"
#include "base/version.h"
#include "cluster/libraries.h"
#include "kernels/precision.h"

namespace superstep::cluster {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxProvenanceBytes = std::int64_t{16} << 20;

Json program_json() {
  Json libraries;
  for (const auto& [name, version] : library_versions()) {
    libraries[name] = version;
  }
  return {{"version", kVersion},
          {"commit", git_id()},
          {"compiler", kCompiler},
          {"build_type", kBuildType},
          {"build_flags", kBuildFlags},
          {"sanitizers", kSanitizers},
          {"instruction_set", instruction_set()},
          {"bf16_arithmetic", kernels::bf16_arithmetic()},
          {"libraries", libraries}};
}

Json start_json(const Start& start) {
  return {{"time", start.time},          {"command_line", start.command_line},
          {"ranks", start.ranks},        {"processes", start.processes},
          {"lanes", start.lanes},        {"kernel_threads_per_lane", 1},
          {"hosts", start.hosts},        {"from_superstep", start.from_superstep},
          {"precision", start.precision}};
}

// Lists and objects by their size: dump() calls itself once per level, and a damaged file may have
// millions of levels.
std::string shown_value(const Json& value) {
  if (value.is_structured() && !value.empty()) {
    return fmt::format("{} of {}", value.is_array() ? "a list" : "an object", value.size());
  }
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Reads one object of the file; everything that is not as write_provenance leaves it is a DataError
// with the key's path.
class Fields {
 public:
  Fields(const Json& object, std::string prefix, const std::filesystem::path& file)
      : object_(object), prefix_(std::move(prefix)), file_(file) {
    if (!object_.is_object()) {
      fail(prefix_.empty() ? "the file" : prefix_, object_, "an object");
    }
  }

  std::string text(const std::string& key) const {
    const Json& value = get(key);
    if (!value.is_string()) {
      fail(prefix_ + key, value, "a string");
    }
    return value.get<std::string>();
  }
  std::string text(const std::string& key, std::string_view otherwise) const {
    return object_.contains(key) ? text(key) : std::string(otherwise);
  }
  std::int64_t integer(const std::string& key, std::int64_t least, std::int64_t most) const {
    return integer_of(get(key), prefix_ + key, least, most);
  }
  float number(const std::string& key, float least) const {
    const Json& value = get(key);
    const double number = value.is_number() ? value.get<double>() : std::nan("");
    if (!(number >= double{least} && number <= double{std::numeric_limits<float>::max()})) {
      fail(prefix_ + key, value, fmt::format("a number, at least {}", least));
    }
    return static_cast<float>(number);
  }
  std::vector<std::int64_t> integers(const std::string& key, std::int64_t least) const {
    std::vector<std::int64_t> values;
    for (const Json& value : list(key)) {
      values.push_back(integer_of(value, fmt::format("{}{}[{}]", prefix_, key, values.size()),
                                  least, std::numeric_limits<std::int64_t>::max()));
    }
    return values;
  }
  std::vector<std::string> texts(const std::string& key) const {
    std::vector<std::string> values;
    for (const Json& value : list(key)) {
      if (!value.is_string()) {
        fail(fmt::format("{}{}[{}]", prefix_, key, values.size()), value, "a string");
      }
      values.push_back(value.get<std::string>());
    }
    return values;
  }
  Fields object(const std::string& key) const {
    return {get(key), fmt::format("{}{}.", prefix_, key), file_};
  }
  std::vector<Fields> objects(const std::string& key) const {
    std::vector<Fields> values;
    for (const Json& value : list(key)) {
      values.emplace_back(value, fmt::format("{}{}[{}].", prefix_, key, values.size()), file_);
    }
    return values;
  }

 private:
  [[noreturn]] void fail(const std::string& key, const Json& got, std::string_view expected) const {
    constexpr std::size_t kShown = 60;
    std::string shown = shown_value(got);
    if (shown.size() > kShown) {
      shown = shown.substr(0, kShown) + "...";
    }
    throw DataError("provenance", file_.string(), -1,
                    fmt::format("this is not the provenance of a run: {}: got {}, expected {}", key,
                                shown, expected),
                    ExitCode::kBadCheckpoint);
  }
  const Json& get(const std::string& key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) {
      throw DataError(
          "provenance", file_.string(), -1,
          fmt::format("this is not the provenance of a run: missing key {}{}", prefix_, key),
          ExitCode::kBadCheckpoint);
    }
    return *found;
  }
  const Json& list(const std::string& key) const {
    const Json& value = get(key);
    if (!value.is_array()) {
      fail(prefix_ + key, value, "a list");
    }
    return value;
  }
  std::int64_t integer_of(const Json& value, const std::string& key, std::int64_t least,
                          std::int64_t most) const {
    const std::optional<std::int64_t> number = json_integer(value, least, most);
    if (!number) {
      fail(key, value, fmt::format("an integer from {} to {}", least, most));
    }
    return *number;
  }

  const Json& object_;
  std::string prefix_;  // "starts[0]."
  const std::filesystem::path& file_;
};

constexpr std::int64_t kMaxInt = std::numeric_limits<int>::max();

Start start_from(const Fields& fields) {
  return {.time = fields.text("time"),
          .command_line = fields.text("command_line"),
          .ranks = static_cast<int>(fields.integer("ranks", 1, kMaxInt)),
          .processes = static_cast<int>(fields.integer("processes", 1, kMaxInt)),
          .lanes = static_cast<int>(fields.integer("lanes", 1, kMaxInt)),
          .hosts = fields.texts("hosts"),
          .from_superstep =
              fields.integer("from_superstep", 0, std::numeric_limits<std::int64_t>::max()),
          .precision = fields.text("precision", "float32")};
}

Json normalization_json(const worker::Normalization& normalization) {
  return {{"kind", static_cast<int>(normalization.kind)},
          {"scale", normalization.scale},
          {"mean", normalization.mean},
          {"standard_deviation", normalization.standard_deviation}};
}

worker::Normalization normalization_from(const Fields& fields) {
  using Kind = worker::Normalization::Kind;
  constexpr float kAny = std::numeric_limits<float>::lowest();
  constexpr float kPositive = std::numeric_limits<float>::denorm_min();
  return {.kind = static_cast<Kind>(fields.integer("kind", 0, static_cast<int>(Kind::kNone))),
          .scale = fields.number("scale", kAny),
          .mean = fields.number("mean", kAny),
          .standard_deviation = fields.number("standard_deviation", kPositive)};
}

std::string read_text(const std::filesystem::path& file) {
  try {
    return read_text_file(file, kMaxProvenanceBytes);
  } catch (const DataError& error) {
    throw DataError("provenance", file.string(), error.offset(),
                    fmt::format("the provenance of the run cannot be read: {}", detail_of(error)),
                    ExitCode::kBadCheckpoint);
  }
}

Json parse_json(std::string_view text, const std::filesystem::path& file) {
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    throw DataError("provenance", file.string(), static_cast<std::int64_t>(error.byte),
                    "this is not the provenance of a run: it is not JSON from there on",
                    ExitCode::kBadCheckpoint);
  } catch (const nlohmann::json::out_of_range&) {
    throw DataError("provenance", file.string(), -1,
                    "this is not the provenance of a run: it has a number that is too large",
                    ExitCode::kBadCheckpoint);
  }
}

}  // namespace

std::string new_run_id() {
  const auto now = std::chrono::system_clock::now();
  const std::string seed = fmt::format("{} {}", now.time_since_epoch().count(), ::getpid());
  return fmt::format("{}-{:08x}", utc_compact(now), hash_text(seed).low & 0xffffffffU);
}

void write_provenance(const std::filesystem::path& file, const Provenance& provenance) {
  Json starts = Json::array();
  for (const Start& start : provenance.starts) {
    starts.push_back(start_json(start));
  }
  const Json json = {{"run_id", provenance.run_id},
                     {"program", program_json()},
                     {"data_fingerprint", provenance.data_fingerprint},
                     {"normalization", normalization_json(provenance.normalization)},
                     {"sample_shape", provenance.sample_shape},
                     {"starts", starts}};
  write_file_atomically(file, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Provenance read_provenance(const std::filesystem::path& file) {
  return parse_provenance(read_text(file), file);
}

Provenance parse_provenance(std::string_view text, const std::filesystem::path& file) {
  const Json json = parse_json(text, file);
  const Fields fields(json, "", file);
  Provenance provenance;
  provenance.run_id = fields.text("run_id");
  provenance.data_fingerprint = fields.text("data_fingerprint");
  provenance.normalization = normalization_from(fields.object("normalization"));
  provenance.sample_shape = fields.integers("sample_shape", 1);
  for (const Fields& start : fields.objects("starts")) {
    provenance.starts.push_back(start_from(start));
  }
  return provenance;
}

}  // namespace superstep::cluster
