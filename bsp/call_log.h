// The sequence of collective calls of one rank since its last sync(), as a hash that ranks compare
// and as records that name the first difference when the hashes differ.
//
// What must be the same on all ranks enters the hash: the kind of call, element type, operation,
// root, counts. Call sites do not (two branches may make the same call); they are for the report.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bsp/call_site.h"
#include "bsp/world.h"

namespace superstep::bsp::internal {

enum class CallKind : std::uint8_t {
  kNone,
  kSync,
  kBroadcast,
  kAllreduce,
  kReduceScatter,
  kAllgather,
  kGather,
  kAlltoallv,
  kAllgatherString,
  kExchange,
  kExecute,
  kRequireSame,
  kSplit,
  kSharedBytes,
  kVar,
  kCoarray,
  kQueue,
  kAggregator,
  kCombiningQueue,
  kMessageChecks,
};
inline constexpr CallKind kLastCallKind = CallKind::kMessageChecks;
std::string_view name_of(CallKind kind);

inline constexpr std::uint8_t kNoAttribute = 255;

struct CallRecord {
  CallKind kind = CallKind::kNone;
  std::uint8_t type = kNoAttribute;  // DataType
  std::uint8_t op = kNoAttribute;    // ReduceOp
  std::int32_t root = -1;
  std::int64_t count = -1;   // elements, where ranks must agree on it
  std::uint64_t detail = 0;  // hash of further arguments that must agree
  CallSite site{};
};

// "allreduce(float32, sum, 10 elements) at trainer.cpp:40"
std::string describe(const CallRecord& record);

// Of counts and the like, for CallRecord::detail.
std::uint64_t hash_counts(std::span<const std::int64_t> counts);

class CallLog {
 public:
  void append(const CallRecord& record);
  void clear();

  // Equal on two ranks when they made the same calls since clear().
  std::uint64_t hash() const { return hash_; }
  const CallRecord& last() const { return records_.back(); }

  // One line per call for first_difference(), the oldest first.
  std::string to_text() const;

 private:
  // Older records are forgotten (the hash remembers them).
  static constexpr std::size_t kMostRecords = 4096;

  std::vector<CallRecord> records_;
  std::uint64_t forgotten_ = 0;
  std::uint64_t hash_ = 0;
};

// Given the to_text() of every rank's log, says which call differs first and which ranks made which
// call; `ranks[i]` is the rank of texts[i].
std::string first_difference(std::span<const std::string> texts, std::span<const int> ranks);

// The logs of a process's ranks in one text, and back: as many as the process has ranks, empty
// where the text has fewer.
std::string join_logs(std::span<const std::string> logs);
std::vector<std::string> split_logs(std::string_view text, std::size_t num_logs);

// "{0, 2, 5}", shortened after 16.
std::string describe_ranks(std::span<const int> ranks);

}  // namespace superstep::bsp::internal
