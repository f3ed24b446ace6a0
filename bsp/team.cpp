#include "bsp/team.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep::bsp::internal {

namespace {

// The words of Team::synchronise, maxima over processes. Hashes agree when the maximum of h equals
// the minimum, which is the complement of the maximum of ~h.
enum Word : std::size_t {
  kHash,
  kHashComplement,
  kPutsOrSends,
  kDirectPuts,
  kGets,
  kActive,
  kNumWords
};

[[noreturn]] void throw_disagreement(const std::string& text) {
  throw CallMismatch("World::sync", text);
}

}  // namespace

Team::Team(std::shared_ptr<const Topology> topology, std::unique_ptr<Transport> transport,
           std::uint32_t context, WaitPolicy wait_policy)
    : topology_(std::move(topology)),
      transport_(std::move(transport)),
      context_(context),
      wait_policy_(wait_policy),
      process_(transport_->process()),
      ranks_(topology_->ranks_of_process[static_cast<std::size_t>(process_)]),
      barrier_(static_cast<int>(ranks_.size())),
      slots_(ranks_.size()) {}

void Team::exchange(int lane, const CallLog& log, std::span<const Outgoing> outgoing,
                    std::span<const Incoming> incoming, Patience& patience) {
  LaneSlot& mine = slots_[static_cast<std::size_t>(lane)];
  mine.log = &log;
  mine.hash = log.hash();
  mine.outgoing = outgoing;
  mine.incoming = incoming;
  barrier_.meet(lane == 0, patience, [this] { require_agreement_of_lanes(); });
  if (!disagreement_.empty()) {
    throw_disagreement(disagreement_);
  }
  copy_from_lanes(lane);
  if (lane == 0 && transport_->num_processes() > 1) {
    exchange_with_processes(patience);
  }
  barrier_.meet(lane == 0, patience);
}

PendingMessages Team::synchronise(int lane, const CallLog& log, PendingMessages pending,
                                  Patience& patience) {
  LaneSlot& mine = slots_[static_cast<std::size_t>(lane)];
  mine.log = &log;
  mine.hash = log.hash();
  mine.pending = pending;
  barrier_.meet(lane == 0, patience, [&] { synchronise_processes(patience); });
  if (!disagreement_.empty()) {
    throw_disagreement(disagreement_);
  }
  return agreed_;
}

void Team::require_agreement_of_lanes() {
  const auto differs = [&](const LaneSlot& slot) { return slot.hash != slots_.front().hash; };
  if (std::none_of(slots_.begin(), slots_.end(), differs)) {
    return;
  }
  std::vector<std::string> logs;
  for (const LaneSlot& slot : slots_) {
    logs.push_back(slot.log->to_text());
  }
  disagreement_ = first_difference(logs, ranks_);
}

void Team::synchronise_processes(Patience& patience) {
  std::array<std::uint64_t, kNumWords> words{};
  for (const LaneSlot& slot : slots_) {
    words[kHash] = std::max(words[kHash], slot.hash);
    words[kHashComplement] = std::max(words[kHashComplement], ~slot.hash);
    words[kPutsOrSends] |= slot.pending.puts_or_sends ? 1U : 0U;
    words[kDirectPuts] |= slot.pending.direct_puts ? 1U : 0U;
    words[kGets] |= slot.pending.gets ? 1U : 0U;
    words[kActive] |= slot.pending.active ? 1U : 0U;
  }
  transport_->synchronise(words, patience);
  if (words[kHash] != ~words[kHashComplement]) {
    disagreement_ = diagnose_all(patience);
  }
  agreed_ = {.puts_or_sends = words[kPutsOrSends] != 0,
             .direct_puts = words[kDirectPuts] != 0,
             .gets = words[kGets] != 0,
             .active = words[kActive] != 0};
}

std::string Team::diagnose_all(Patience& patience) {
  std::vector<std::string> mine;
  for (const LaneSlot& slot : slots_) {
    mine.push_back(slot.log->to_text());
  }
  std::vector<std::string> logs;
  std::vector<int> ranks;
  const std::vector<std::string> texts = allgather_texts(*transport_, join_logs(mine), patience);
  for (std::size_t process = 0; process < texts.size(); ++process) {
    const std::vector<int>& theirs = topology_->ranks_of_process[process];
    ranks.insert(ranks.end(), theirs.begin(), theirs.end());
    for (std::string& log : split_logs(texts[process], theirs.size())) {
      logs.push_back(std::move(log));
    }
  }
  return first_difference(logs, ranks);
}

std::span<const std::byte> Team::find_message(int from, int to, int nth) const {
  const LaneSlot& sender =
      slots_[static_cast<std::size_t>(topology_->lane_of[static_cast<std::size_t>(from)])];
  for (const Outgoing& message : sender.outgoing) {
    if (message.to == to && nth-- == 0) {
      return message.bytes;
    }
  }
  throw CommunicationError(
      "World::exchange",
      fmt::format("rank {} waits for a message that rank {} does not send", to, from));
}

void Team::copy_from_lanes(int lane) const {
  const LaneSlot& mine = slots_[static_cast<std::size_t>(lane)];
  const int me = ranks_[static_cast<std::size_t>(lane)];
  for (std::size_t i = 0; i < mine.incoming.size(); ++i) {
    const Incoming& message = mine.incoming[i];
    if (topology_->process_of[static_cast<std::size_t>(message.from)] != process_) {
      continue;
    }
    const auto same_sender = [&](const Incoming& other) { return other.from == message.from; };
    const auto nth = std::count_if(
        mine.incoming.begin(), mine.incoming.begin() + static_cast<std::ptrdiff_t>(i), same_sender);
    const std::span<const std::byte> source = find_message(message.from, me, static_cast<int>(nth));
    if (source.size() != message.bytes.size()) {
      throw MessageMismatch("World::exchange", me, message.from, source.size(),
                            message.bytes.size());
    }
    if (!source.empty()) {
      std::memmove(message.bytes.data(), source.data(), source.size());
    }
  }
}

void Team::collect_messages() {
  sends_.clear();
  receives_.clear();
  for (std::size_t lane = 0; lane < slots_.size(); ++lane) {
    for (const Outgoing& message : slots_[lane].outgoing) {
      const int process = topology_->process_of[static_cast<std::size_t>(message.to)];
      if (process != process_) {
        sends_.push_back({process, message.bytes, ranks_[lane], message.to});
      }
    }
    for (const Incoming& message : slots_[lane].incoming) {
      const int process = topology_->process_of[static_cast<std::size_t>(message.from)];
      if (process != process_) {
        receives_.push_back({process, message.bytes, message.from, ranks_[lane]});
      }
    }
  }
  // Between two processes messages match in the order listed: by sender, receiver, and as the
  // sender and the receiver listed them.
  const auto by_ranks = [](const auto& a, const auto& b) {
    return std::tie(a.from_rank, a.to_rank) < std::tie(b.from_rank, b.to_rank);
  };
  std::stable_sort(sends_.begin(), sends_.end(), by_ranks);
  std::stable_sort(receives_.begin(), receives_.end(), by_ranks);
}

void Team::exchange_with_processes(Patience& patience) {
  collect_messages();
  transport_->exchange(sends_, receives_, patience);
}

}  // namespace superstep::bsp::internal
