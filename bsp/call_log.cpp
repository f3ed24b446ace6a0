#include "bsp/call_log.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "bsp/source_path.h"

namespace superstep::bsp::internal {

namespace {

constexpr std::array<std::string_view, 20> kKindNames = {
    "none",      "sync",         "broadcast",  "allreduce",        "reduce_scatter",
    "allgather", "gather",       "alltoallv",  "allgather_string", "exchange",
    "execute",   "require_same", "split",      "SharedArray",      "Var",
    "Coarray",   "Queue",        "Aggregator", "CombiningQueue",   "MessageChecks"};
constexpr std::array<std::string_view, 11> kTypeNames = {"bool",   "int8",    "uint8",  "int16",
                                                         "uint16", "int32",   "uint32", "int64",
                                                         "uint64", "float32", "float64"};
constexpr std::array<std::string_view, 3> kOpNames = {"sum", "min", "max"};

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}
constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

std::uint64_t combine(std::uint64_t hash, std::uint64_t value) {
  return mix(hash * kGolden + value + 1);
}

// Ends a rank's log in the text of its process.
constexpr char kLogEnd = '\f';

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// What of a line must agree: all but the call site.
std::string_view comparable(std::string_view line) {
  return line.substr(0, line.rfind(" at "));
}

}  // namespace

std::string_view name_of(CallKind kind) {
  return kKindNames[static_cast<std::size_t>(kind)];
}

std::string describe(const CallRecord& record) {
  std::string arguments;
  const auto add = [&](const std::string& argument) {
    arguments += (arguments.empty() ? "" : ", ") + argument;
  };
  if (record.type != kNoAttribute) {
    add(std::string(kTypeNames[record.type]));
  }
  if (record.op != kNoAttribute) {
    add(std::string(kOpNames[record.op]));
  }
  if (record.count >= 0) {
    add(fmt::format("{} element{}", record.count, record.count == 1 ? "" : "s"));
  }
  if (record.root >= 0) {
    add(fmt::format("root {}", record.root));
  }
  if (record.detail != 0) {
    add(fmt::format("arguments #{:04x}", record.detail >> 48));
  }
  return fmt::format("{}({}) at {}", name_of(record.kind), arguments, describe_site(record.site));
}

std::uint64_t hash_counts(std::span<const std::int64_t> counts) {
  std::uint64_t hash = 0;
  for (const std::int64_t count : counts) {
    hash = combine(hash, static_cast<std::uint64_t>(count));
  }
  return hash;
}

void CallLog::append(const CallRecord& record) {
  const std::uint64_t small = std::uint64_t{static_cast<std::uint8_t>(record.kind)} |
                              std::uint64_t{record.type} << 8 | std::uint64_t{record.op} << 16 |
                              std::uint64_t{static_cast<std::uint32_t>(record.root)} << 32;
  hash_ = combine(hash_, small);
  hash_ = combine(hash_, static_cast<std::uint64_t>(record.count) ^ mix(record.detail));
  if (records_.size() == kMostRecords) {
    records_.erase(records_.begin(), records_.begin() + kMostRecords / 2);
    forgotten_ += kMostRecords / 2;
  }
  records_.push_back(record);
}

void CallLog::clear() {
  records_.clear();
  forgotten_ = 0;
  hash_ = 0;
}

std::string CallLog::to_text() const {
  std::string text;
  std::uint64_t index = forgotten_;
  for (const CallRecord& record : records_) {
    text += fmt::format("call {} since the last sync: {}\n", ++index, describe(record));
  }
  return text;
}

std::string first_difference(std::span<const std::string> texts, std::span<const int> ranks) {
  std::vector<std::vector<std::string_view>> logs;
  std::size_t longest = 0;
  for (const std::string& text : texts) {
    logs.push_back(split_lines(text));
    longest = std::max(longest, logs.back().size());
  }
  const auto line_at = [&](std::size_t log, std::size_t i) {
    return i < logs[log].size() ? logs[log][i] : std::string_view("no further call at (nowhere)");
  };
  for (std::size_t i = 0; i < longest; ++i) {
    // By what must agree: the first line seen, and the ranks.
    std::map<std::string_view, std::pair<std::string_view, std::vector<int>>> groups;
    for (std::size_t log = 0; log < logs.size(); ++log) {
      auto& group = groups[comparable(line_at(log, i))];
      group.first = line_at(log, i);
      group.second.push_back(ranks[log]);
    }
    if (groups.size() > 1) {
      std::string message = "ranks made different collective calls:";
      for (const auto& [unused, group] : groups) {
        message += fmt::format("\n  ranks {}: {}", describe_ranks(group.second), group.first);
      }
      return message;
    }
  }
  return "ranks made different collective calls, the first of them longer ago than the calls kept";
}

std::string join_logs(std::span<const std::string> logs) {
  std::string text;
  for (const std::string& log : logs) {
    text += log + kLogEnd;
  }
  return text;
}

std::vector<std::string> split_logs(std::string_view text, std::size_t num_logs) {
  std::vector<std::string> logs(num_logs);
  for (std::string& log : logs) {
    const std::size_t end = std::min(text.find(kLogEnd), text.size());
    log = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return logs;
}

std::string describe_ranks(std::span<const int> ranks) {
  constexpr std::size_t kMost = 16;
  std::string text;
  for (std::size_t i = 0; i < ranks.size() && i < kMost; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  }
  if (ranks.size() > kMost) {
    text += fmt::format(" and {} more", ranks.size() - kMost);
  }
  return "{" + text + "}";
}

}  // namespace superstep::bsp::internal
