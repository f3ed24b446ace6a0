// What the processes of a job send each other beside arrays, and what `superstep launch` reads
// about a job: hosts, mpirun's output, the ranks' status and end.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bsp/agreement.h"
#include "bsp/call_log.h"
#include "bsp/message_record.h"
#include "bsp/shared_memory.h"
#include "bsp/status_message.h"
#include "cluster/launch_diagnosis.h"
#include "cluster/launch_hosts.h"
#include "cluster/launch_record.h"
#include "cluster/launch_watch.h"
#include "tests/fuzz/selected_case.h"

namespace superstep {
namespace {

using testing::require;

constexpr int kRanks = 8;

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

void read_status_answer(std::string_view input) {
  const auto answer = bsp::internal::decode_statuses(input, kRanks);
  if (!answer) {
    return;
  }
  std::vector<bsp::internal::RankStatus> statuses(kRanks);
  for (const auto& [rank, status] : *answer) {
    statuses.at(static_cast<std::size_t>(rank)) = status;
  }
  bsp::internal::report_missing(statuses, {.kind = bsp::internal::CallKind::kSync, .calls = 4});
  const std::string text = bsp::internal::encode_statuses(*answer);
  const auto again = bsp::internal::decode_statuses(text, kRanks);
  require(again && bsp::internal::encode_statuses(*again) == text);
}

// One rank a line.
void read_fields(std::string_view input) {
  std::vector<bsp::AgreementFields> by_rank;
  try {
    for (const std::string& line : lines_of(input)) {
      by_rank.push_back(bsp::internal::decode_fields(line, static_cast<int>(by_rank.size())));
      require(bsp::internal::decode_fields(bsp::internal::encode_fields(by_rank.back()), 0) ==
              by_rank.back());
    }
  } catch (const CommunicationError&) {
    return;
  }
  if (!by_rank.empty()) {
    bsp::internal::differences(by_rank);
  }
}

void read_call_logs(std::string_view input) {
  constexpr std::array kThree = {0, 1, 2};
  const std::vector<std::string> logs = bsp::internal::split_logs(input, kThree.size());
  require(bsp::internal::split_logs(bsp::internal::join_logs(logs), kThree.size()) == logs);
  require(!bsp::internal::first_difference(logs, kThree).empty());
}

void read_messages(std::string_view input) {
  constexpr std::size_t kMemoryBytes = 64;
  std::vector<std::byte> memory(kMemoryBytes);
  std::vector<std::byte> again;
  const auto stream = std::as_bytes(std::span(input.data(), input.size()));
  try {
    for (bsp::internal::MessageReader reader(stream, 1); reader.next();) {
      const bsp::internal::MessageRecord& record = reader.record();
      bsp::internal::append_message(again, record, reader.bytes());
      if (record.kind != bsp::internal::MessageKind::kSend) {
        const auto part = bsp::internal::memory_of(record, memory, 1);
        std::copy(reader.bytes().begin(), reader.bytes().end(), part.begin());
      }
    }
    require(std::equal(again.begin(), again.end(), stream.begin(), stream.end()));
  } catch (const CommunicationError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

void read_shared_name(std::string_view input) {
  if (const auto owner = bsp::internal::owner_of_shared(input)) {
    require(*owner > 0 && input.starts_with("superstep-"));
  }
}

void read_hostfile(std::string_view input) {
  try {
    std::string text;
    const std::vector<cluster::Host> hosts = cluster::parse_hostfile(std::string(input), "hosts");
    for (const cluster::Host& host : hosts) {
      require(!host.name.empty() && host.slots >= 0);
      text += host.line + "\n";
    }
    // What is written for the next attempt names the same hosts.
    const std::vector<cluster::Host> again = cluster::parse_hostfile(text, "hosts");
    require(std::equal(hosts.begin(), hosts.end(), again.begin(), again.end(),
                       [](const cluster::Host& a, const cluster::Host& b) {
                         return a.name == b.name && a.slots == b.slots;
                       }));
  } catch (const InvalidArgument&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

// Options of mpirun, one a line; no host files, which are read above.
void read_mpirun_options(std::string_view input) {
  if (input.find("file") != std::string_view::npos) {
    return;
  }
  try {
    cluster::HostPlan plan = cluster::HostPlan::from_options(lines_of(input));
    const std::vector<cluster::Host> hosts = plan.hosts();
    for (const cluster::Host& host : hosts) {
      plan.blame(host.name);
      plan.blame(host.name);
      plan.options({});
    }
    require(hosts.empty() == plan.hosts().empty());
    require(plan.num_processes().value_or(1) >= 1);
  } catch (const InvalidArgument&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

// The first byte is the size of the pieces in which it comes.
void read_mpirun_output(std::string_view input) {
  if (input.empty()) {
    return;
  }
  const std::size_t piece_bytes = static_cast<std::uint8_t>(input.front()) + std::size_t{1};
  input.remove_prefix(1);
  cluster::Diagnosis whole;
  std::string shown = whole.feed(input);
  shown += whole.finish();
  cluster::Diagnosis pieces;
  std::string shown_of_pieces;
  for (std::size_t at = 0; at < input.size(); at += piece_bytes) {
    shown_of_pieces += pieces.feed(input.substr(at, piece_bytes));
  }
  shown_of_pieces += pieces.finish();
  require(shown == shown_of_pieces && whole.daemon_job() == pieces.daemon_job() &&
          whole.named().has_value() == pieces.named().has_value());
}

void read_status_file(std::string_view input) {
  const std::vector<cluster::WatchedRank> ranks = cluster::parse_status(input);
  const std::optional<cluster::WatchedRank> culprit = cluster::culprit_of(ranks);
  require(culprit.has_value() == !ranks.empty());
  require(!culprit || (culprit->rank >= 0 && !culprit->to_text().empty()));
}

// One rank a line.
void read_rank_records(std::string_view input) {
  std::map<int, cluster::RankOutcome> outcomes;
  for (const std::string& line : lines_of(input)) {
    if (const std::optional<cluster::NodeRecord> node = cluster::parse_node(line)) {
      require(node->rank >= 0);
    }
    if (std::optional<cluster::RankOutcome> outcome = cluster::parse_outcome(line)) {
      require(outcome->rank >= 0 && outcome->rank < outcome->num_ranks);
      outcomes.insert_or_assign(outcome->rank, std::move(*outcome));
    }
  }
  require(!cluster::join_outcomes(outcomes).what.empty());
}

constexpr testing::FuzzCase kCases[] = {read_status_answer,  read_fields,        read_call_logs,
                                        read_messages,       read_shared_name,   read_hostfile,
                                        read_mpirun_options, read_mpirun_output, read_status_file,
                                        read_rank_records};

}  // namespace
}  // namespace superstep

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return superstep::testing::run_selected(superstep::kCases, data, size);
}
