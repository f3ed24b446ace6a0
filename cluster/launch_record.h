// What every rank of a supervised run writes at its end, and how the launcher reads it.
//
// A process that `superstep launch` started finds the launch and the attempt in its environment.
// When its training begins, each node writes its names; when it has ended, each rank writes
// RUN_DIR/launch/rank-<rank>.json, whole or not at all. mpirun's exit code alone does not prove
// that a job is complete; these files do.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/launch_policy.h"

namespace superstep::cluster {

inline constexpr const char* kLaunchIdVariable = "SUPERSTEP_LAUNCH_ID";
inline constexpr const char* kLaunchAttemptVariable = "SUPERSTEP_LAUNCH_ATTEMPT";

struct LaunchContext {
  std::string id;
  std::int64_t attempt = 0;
  friend bool operator==(const LaunchContext&, const LaunchContext&) = default;
};

// nullopt unless `superstep launch` started this process.
std::optional<LaunchContext> launch_context();

struct RankOutcome {
  LaunchContext launch;
  int rank = 0;
  int num_ranks = 0;
  bool stopped = false;  // by a signal or the wall-time limit: to be resumed
  std::string reason;    // worker::name_of(StopReason)
  std::int64_t superstep = 0;
  std::string parameters_hash;
  std::string state_hash;
};

// How a node calls itself, and where it can be reached: the launcher knows hosts by the names and
// addresses that the user gave. One record per node, RUN_DIR/launch/node-<rank>.json.
struct NodeRecord {
  LaunchContext launch;
  int rank = 0;  // its first
  std::string host;
  std::vector<std::uint32_t> addresses;  // IPv4, in host byte order
};

// Throws DataError.
void make_launch_directory(const std::filesystem::path& launch_directory);
// The directory must exist. Throws DataError.
void write_outcome(const std::filesystem::path& launch_directory, const RankOutcome& outcome);

void write_node(const std::filesystem::path& launch_directory, const NodeRecord& node);
// The addresses of the nodes of this attempt that call themselves so. Throws nothing.
std::vector<std::uint32_t> read_addresses(const std::filesystem::path& launch_directory,
                                          const LaunchContext& launch, const std::string& host);

// Of one file; nullopt when it is damaged. Throws nothing of its own.
std::optional<RankOutcome> parse_outcome(std::string_view text);

std::optional<NodeRecord> parse_node(std::string_view text);

// What ranks of an earlier attempt left; other files stay. Throws nothing.
void remove_records(const std::filesystem::path& launch_directory);

struct JointOutcome {
  RankVerdict verdict = RankVerdict::kIncomplete;
  std::string what;   // one line: which ranks are missing, or what differs
  RankOutcome first;  // of rank 0, when it is there
  int num_recorded = 0;
};

// Of records by rank, each below its num_ranks.
JointOutcome join_outcomes(const std::map<int, RankOutcome>& outcomes);
// The records of this attempt; those of other attempts, and files that are no records, count as
// missing. Throws nothing.
JointOutcome read_outcomes(const std::filesystem::path& launch_directory,
                           const LaunchContext& launch);

}  // namespace superstep::cluster
