#include "cluster/launch_record.h"

#include <limits>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/checked_cast.h"
#include "base/env.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_integer.h"
#include "cluster/launch_network.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxRecordBytes = 1 << 16;
constexpr std::size_t kMostNamed = 8;

// Empty when it cannot be read.
std::string read_record(const fs::path& path) {
  try {
    return read_text_file(path, kMaxRecordBytes);
  } catch (const DataError&) {
    return {};
  }
}

// Every recorded rank is below num_ranks. A damaged file may say any number of ranks: no more are
// looked at than are named.
std::string missing_ranks(const std::map<int, RankOutcome>& outcomes, int num_ranks) {
  std::vector<std::string> missing;
  for (int rank = 0; rank < num_ranks && missing.size() <= kMostNamed; ++rank) {
    if (!outcomes.contains(rank)) {
      missing.push_back(missing.size() < kMostNamed ? std::to_string(rank) : "...");
    }
  }
  return fmt::format("{} of {} ranks recorded no end: {}",
                     num_ranks - checked_cast<int>(outcomes.size()), num_ranks,
                     fmt::join(missing, ", "));
}

bool is_same_end(const RankOutcome& a, const RankOutcome& b) {
  return a.num_ranks == b.num_ranks && a.stopped == b.stopped && a.superstep == b.superstep &&
         a.parameters_hash == b.parameters_hash && a.state_hash == b.state_hash;
}

}  // namespace

std::optional<RankOutcome> parse_outcome(std::string_view text) {
  constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
  try {
    const Json json = Json::parse(text);
    const auto attempt = json_integer(json.at("attempt"), 0, kAny);
    const auto num_ranks = json_integer(json.at("ranks"), 1, std::numeric_limits<int>::max());
    const auto rank = json_integer(json.at("rank"), 0, num_ranks.value_or(0) - 1);
    const auto superstep = json_integer(json.at("superstep"), 0, kAny);
    if (!attempt || !num_ranks || !rank || !superstep) {
      return std::nullopt;
    }
    return RankOutcome{.launch = {.id = json.at("launch"), .attempt = *attempt},
                       .rank = static_cast<int>(*rank),
                       .num_ranks = static_cast<int>(*num_ranks),
                       .stopped = json.at("stopped"),
                       .reason = json.at("reason"),
                       .superstep = *superstep,
                       .parameters_hash = json.at("parameters_hash"),
                       .state_hash = json.at("state_hash")};
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

std::optional<NodeRecord> parse_node(std::string_view text) {
  constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
  try {
    const Json json = Json::parse(text);
    const auto attempt = json_integer(json.at("attempt"), 0, kAny);
    const auto rank = json_integer(json.at("rank"), 0, std::numeric_limits<int>::max());
    if (!attempt || !rank) {
      return std::nullopt;
    }
    NodeRecord node{.launch = {.id = json.at("launch"), .attempt = *attempt},
                    .rank = static_cast<int>(*rank),
                    .host = json.at("host"),
                    .addresses = {}};
    for (const Json& entry : json.at("addresses")) {
      if (const auto address = parse_address(entry.get<std::string>())) {
        node.addresses.push_back(*address);
      }
    }
    return node;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

std::optional<LaunchContext> launch_context() {
  const std::optional<std::string> id = environment_variable(kLaunchIdVariable);
  const std::optional<std::int64_t> attempt = environment_integer(kLaunchAttemptVariable);
  if (!id || id->empty() || !attempt) {
    return std::nullopt;
  }
  return LaunchContext{.id = *id, .attempt = *attempt};
}

void make_launch_directory(const fs::path& launch_directory) {
  std::error_code error;
  fs::create_directories(launch_directory, error);
  if (error) {
    throw DataError("launch record", launch_directory.string(), -1,
                    fmt::format("cannot make the directory: {}", error.message()),
                    ExitCode::kFailure);
  }
}

void write_outcome(const fs::path& launch_directory, const RankOutcome& outcome) {
  const Json json = {{"launch", outcome.launch.id},
                     {"attempt", outcome.launch.attempt},
                     {"rank", outcome.rank},
                     {"ranks", outcome.num_ranks},
                     {"stopped", outcome.stopped},
                     {"reason", outcome.reason},
                     {"superstep", outcome.superstep},
                     {"parameters_hash", outcome.parameters_hash},
                     {"state_hash", outcome.state_hash}};
  write_file_atomically(launch_directory / fmt::format("rank-{:05}.json", outcome.rank),
                        json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void write_node(const fs::path& launch_directory, const NodeRecord& node) {
  Json addresses = Json::array();
  for (const std::uint32_t address : node.addresses) {
    addresses.push_back(address_text(address));
  }
  const Json json = {{"launch", node.launch.id},
                     {"attempt", node.launch.attempt},
                     {"rank", node.rank},
                     {"host", node.host},
                     {"addresses", addresses}};
  write_file_atomically(launch_directory / fmt::format("node-{:05}.json", node.rank),
                        json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::vector<std::uint32_t> read_addresses(const fs::path& launch_directory,
                                          const LaunchContext& launch, const std::string& host) {
  std::vector<std::uint32_t> addresses;
  std::error_code error;
  for (fs::directory_iterator entry(launch_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!entry->path().filename().native().starts_with("node-")) {
      continue;
    }
    const std::optional<NodeRecord> node = parse_node(read_record(entry->path()));
    if (node && node->launch == launch && node->host == host) {
      addresses.insert(addresses.end(), node->addresses.begin(), node->addresses.end());
    }
  }
  return addresses;
}

void remove_records(const fs::path& launch_directory) {
  std::vector<fs::path> records;
  std::error_code error;
  for (fs::directory_iterator entry(launch_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool is_record =
        name.starts_with("rank-") || name.starts_with("status-") || name.starts_with("node-");
    if (is_temporary_name(name) || (is_record && name.ends_with(".json"))) {
      records.push_back(entry->path());
    }
  }
  for (const fs::path& path : records) {
    fs::remove(path, error);
  }
}

JointOutcome read_outcomes(const fs::path& launch_directory, const LaunchContext& launch) {
  std::map<int, RankOutcome> outcomes;
  std::error_code error;
  for (fs::directory_iterator entry(launch_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_temporary_name(entry->path().filename().native())) {
      continue;
    }
    if (std::optional<RankOutcome> outcome = parse_outcome(read_record(entry->path()));
        outcome && outcome->launch == launch) {
      outcomes.insert_or_assign(outcome->rank, std::move(*outcome));
    }
  }
  return join_outcomes(outcomes);
}

JointOutcome join_outcomes(const std::map<int, RankOutcome>& outcomes) {
  JointOutcome joint;
  joint.num_recorded = checked_cast<int>(outcomes.size());
  if (outcomes.empty()) {
    joint.what = "no rank recorded its end";
    return joint;
  }
  joint.first = outcomes.begin()->second;
  const int num_ranks = joint.first.num_ranks;
  for (const auto& [rank, outcome] : outcomes) {
    if (!is_same_end(outcome, joint.first)) {
      joint.verdict = RankVerdict::kDisagree;
      joint.what = fmt::format("rank {} ended with {} at superstep {}, rank {} with {} at {}", rank,
                               outcome.parameters_hash, outcome.superstep, joint.first.rank,
                               joint.first.parameters_hash, joint.first.superstep);
      return joint;
    }
  }
  if (joint.num_recorded != num_ranks) {
    joint.what = missing_ranks(outcomes, num_ranks);
    return joint;
  }
  joint.verdict = joint.first.stopped ? RankVerdict::kStopped : RankVerdict::kFinished;
  joint.what = fmt::format("{} ranks recorded {} at superstep {}, {}", num_ranks,
                           joint.first.reason, joint.first.superstep, joint.first.parameters_hash);
  return joint;
}

}  // namespace superstep::cluster
