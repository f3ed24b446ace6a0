#include "cluster/provenance.h"

#include <chrono>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/version.h"
#include "cluster/libraries.h"

namespace superstep::cluster {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxBytes = std::int64_t{16} << 20;

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
          {"libraries", libraries}};
}

Json start_json(const Start& start) {
  return {{"time", start.time},   {"command_line", start.command_line},
          {"ranks", start.ranks}, {"processes", start.processes},
          {"lanes", start.lanes}, {"kernel_threads_per_lane", 1},
          {"hosts", start.hosts}, {"from_superstep", start.from_superstep}};
}

Start start_from(const Json& json) {
  return {.time = json.at("time"),
          .command_line = json.at("command_line"),
          .ranks = json.at("ranks"),
          .processes = json.at("processes"),
          .lanes = json.at("lanes"),
          .hosts = json.at("hosts"),
          .from_superstep = json.at("from_superstep")};
}

Json normalization_json(const worker::Normalization& normalization) {
  return {{"kind", static_cast<int>(normalization.kind)},
          {"scale", normalization.scale},
          {"mean", normalization.mean},
          {"standard_deviation", normalization.standard_deviation}};
}

worker::Normalization normalization_from(const Json& json) {
  const int kind = json.at("kind");
  if (kind < 0 || kind > static_cast<int>(worker::Normalization::Kind::kNone)) {
    throw InvalidArgument("provenance",
                          fmt::format("normalization.kind out of range: got {}", kind));
  }
  return {.kind = static_cast<worker::Normalization::Kind>(kind),
          .scale = json.at("scale"),
          .mean = json.at("mean"),
          .standard_deviation = json.at("standard_deviation")};
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
  try {
    const Json json = Json::parse(read_text_file(file, kMaxBytes));
    Provenance provenance;
    provenance.run_id = json.at("run_id");
    provenance.data_fingerprint = json.at("data_fingerprint");
    provenance.normalization = normalization_from(json.at("normalization"));
    provenance.sample_shape = json.at("sample_shape").get<std::vector<std::int64_t>>();
    for (const Json& start : json.at("starts")) {
      provenance.starts.push_back(start_from(start));
    }
    return provenance;
  } catch (const nlohmann::json::exception& error) {
    throw DataError("provenance", file.string(), -1,
                    fmt::format("this is not the provenance of a run: {}", error.what()),
                    ExitCode::kBadCheckpoint);
  }
}

}  // namespace superstep::cluster
