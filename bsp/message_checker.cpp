#include "bsp/message_checker.h"

#include <algorithm>
#include <sstream>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/source_path.h"
#include "bsp/world_state.h"

namespace superstep::bsp::internal {

namespace {

// One rank's part of an exchange: where it was called, and bytes by peer in the order listed.
struct Declared {
  std::string site;
  std::vector<std::vector<std::size_t>> sends;
  std::vector<std::vector<std::size_t>> receives;
};

std::string declare(std::span<const Outgoing> outgoing, std::span<const Incoming> incoming,
                    CallSite site) {
  std::string text = describe_site(site) + "\n";
  for (const Outgoing& message : outgoing) {
    text += fmt::format("s {} {}\n", message.to, message.bytes.size());
  }
  for (const Incoming& message : incoming) {
    text += fmt::format("r {} {}\n", message.from, message.bytes.size());
  }
  return text;
}

Declared read_declaration(const std::string& text, int num_ranks) {
  Declared declared;
  declared.sends.resize(static_cast<std::size_t>(num_ranks));
  declared.receives.resize(static_cast<std::size_t>(num_ranks));
  std::istringstream lines(text);
  std::getline(lines, declared.site);
  char direction = ' ';
  std::size_t peer = 0;
  std::size_t bytes = 0;
  while (lines >> direction >> peer >> bytes) {
    (direction == 's' ? declared.sends : declared.receives).at(peer).push_back(bytes);
  }
  return declared;
}

std::string describe_bytes(const std::vector<std::size_t>& messages) {
  return messages.empty() ? "nothing" : fmt::format("{} bytes", fmt::join(messages, ", "));
}

}  // namespace

void MessageChecker::remember_source(int to, std::span<const std::byte> bytes, CallSite site) {
  sources_.push_back({to, bytes, hash_bytes(bytes), site});
}

void MessageChecker::check_sources() {
  for (const Source& source : sources_) {
    if (hash_bytes(source.bytes) != source.hash) {
      wrong_.push_back(fmt::format(
          "the source of an unbuffered put changed before the sync: {} bytes put to rank {} at {}",
          source.bytes.size(), source.to, describe_site(source.site)));
    }
  }
  sources_.clear();
}

void MessageChecker::note_puts(std::span<const std::byte> stream, int source) {
  for (MessageReader reader(stream, source); reader.next();) {
    const MessageRecord& record = reader.record();
    if (record.kind == MessageKind::kPut || record.kind == MessageKind::kDirectPut) {
      puts_.push_back({record.id, record.offset_bytes, record.offset_bytes + record.num_bytes,
                       source, record.kind == MessageKind::kDirectPut, "(unknown)"});
    } else if (record.kind == MessageKind::kOrigin && !puts_.empty()) {
      puts_.back().origin.assign(reinterpret_cast<const char*>(reader.bytes().data()),
                                 reader.bytes().size());
    }
  }
}

void MessageChecker::check_conflicts(const TargetOf& target_of) {
  std::sort(puts_.begin(), puts_.end(), [](const Put& a, const Put& b) {
    return std::tie(a.id, a.begin, a.source) < std::tie(b.id, b.begin, b.source);
  });
  const Put* widest = nullptr;  // of the puts before, the one that reaches farthest
  for (const Put& put : puts_) {
    if (widest == nullptr || widest->id != put.id) {
      widest = &put;
      continue;
    }
    const bool overlaps = put.begin < std::min(widest->end, put.end);
    if (overlaps && (put.source != widest->source || put.is_direct || widest->is_direct)) {
      const MessageTarget& target = target_of(put.id);
      const std::int64_t size = target.element_bytes();
      wrong_.push_back(fmt::format(
          "conflicting puts: elements [{}, {}) of the {} are written by rank {} (put at {}) and by "
          "rank {} (put at {}) in one superstep",
          put.begin / size, std::min(widest->end, put.end) / size, target.describe(),
          widest->source, widest->origin, put.source, put.origin));
    }
    widest = put.end > widest->end ? &put : widest;
  }
  puts_.clear();
}

void MessageChecker::report(int rank) {
  if (!wrong_.empty()) {
    const std::vector<std::string> wrong = std::exchange(wrong_, {});
    throw CommunicationError("World::sync",
                             fmt::format("rank {}: {}", rank, fmt::join(wrong, "\n  ")),
                             ExitCode::kRanksDisagree);
  }
}

void check_counts(const char* where, World::State& state, std::span<const Outgoing> outgoing,
                  std::span<const Incoming> incoming, CallSite site) {
  if (state.messages.checker() == nullptr) {
    return;
  }
  std::vector<Declared> declared;
  for (const std::string& text : state.allgather_texts_raw(declare(outgoing, incoming, site))) {
    declared.push_back(read_declaration(text, state.size()));
  }
  for (std::size_t from = 0; from < declared.size(); ++from) {
    for (std::size_t to = 0; to < declared.size(); ++to) {
      const auto& sent = declared[from].sends[to];
      const auto& expected = declared[to].receives[from];
      if (sent != expected) {
        throw CommunicationError(
            where,
            fmt::format("mismatched counts: got {} sent by rank {} at {}, rank {} expected {} at "
                        "{}",
                        describe_bytes(sent), from, declared[from].site, to,
                        describe_bytes(expected), declared[to].site),
            ExitCode::kRanksDisagree);
      }
    }
  }
}

}  // namespace superstep::bsp::internal
