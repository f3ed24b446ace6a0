#include "worker/federated/audit.h"

#include <algorithm>
#include <array>
#include <functional>
#include <sstream>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/source_path.h"

namespace superstep::worker {

namespace {

struct Declaration {
  std::string_view phase;
  std::string_view type;
};

constexpr std::array kDeclarations = {
    Declaration{"read sites", "site_counts"},
    Declaration{"measure losses", "largest_loss"},
    Declaration{"share records", "client_records"},
    Declaration{"exchange", "published_parameters"},
    Declaration{"exchange updates", "client_updates"},
    Declaration{"privacy", "privacy_counts"},
    Declaration{"evaluate", "evaluation_sums"},
    Declaration{"evaluate clients", "client_accuracies"},
    Declaration{"checkpoint", "checkpoint_notes"},
    Declaration{"audit", "audit"},
};

// Calls whose arguments are names, sizes and hashes, whatever the phase.
constexpr std::array<std::string_view, 3> kAgreements = {"SharedArray", "require_same", "split"};

bool overlap(std::span<const std::byte> a, std::span<const std::byte> b) {
  const std::less<> before;  // of pointers into different objects
  return !a.empty() && !b.empty() && before(a.data(), b.data() + b.size()) &&
         before(b.data(), a.data() + a.size());
}

std::string to_line(const AuditEntry& entry) {
  return fmt::format("{} {} {} {}\n", entry.type, static_cast<int>(entry.way), entry.count,
                     entry.bytes);
}

std::vector<AuditEntry> parse_lines(const std::string& text, int rank) {
  std::vector<AuditEntry> entries;
  std::istringstream in(text);
  AuditEntry entry;
  entry.rank = rank;
  int way = 0;
  while (in >> entry.type >> way >> entry.count >> entry.bytes) {
    entry.way = static_cast<AuditWay>(way);
    entries.push_back(entry);
  }
  return entries;
}

}  // namespace

std::string_view name_of(AuditWay way) {
  switch (way) {
    case AuditWay::kMessage:
      return "message";
    case AuditWay::kSharedMemory:
      return "shared_memory";
    case AuditWay::kFile:
      return "file";
  }
  return "unknown";
}

std::string_view audited_type(std::string_view phase, std::string_view call) {
  if (std::find(kAgreements.begin(), kAgreements.end(), call) != kAgreements.end()) {
    return "agreement";
  }
  if (phase == "exchange" && call == "reduce_scatter") {
    return "update_sums";
  }
  const auto* const found =
      std::find_if(kDeclarations.begin(), kDeclarations.end(),
                   [&](const Declaration& declaration) { return declaration.phase == phase; });
  return found == kDeclarations.end() ? std::string_view() : found->type;
}

Audit::Audit(bsp::World& world) : world_(world) {
  world_.set_outgoing_observer(this);
}

Audit::~Audit() {
  stop();
}

void Audit::stop() {
  world_.set_outgoing_observer(nullptr);
}

void Audit::protect(Memory samples) {
  protected_.push_back(samples);
}

void Audit::protect(const std::vector<Memory>& samples) {
  protected_.insert(protected_.end(), samples.begin(), samples.end());
}

void Audit::fail(const bsp::OutgoingBytes& outgoing, std::string_view type,
                 const std::string& what) const {
  throw CommunicationError(
      "Audit",
      fmt::format("rank {}, superstep {}: {}: {} bytes {} in {} at {}:{}, phase \"{}\"{}",
                  world_.rank(), world_.superstep(), what, outgoing.bytes.size(),
                  outgoing.to < 0 ? std::string("to the ranks of the node")
                                  : fmt::format("to rank {}", outgoing.to),
                  outgoing.call, bsp::path_in_project(outgoing.site.file), outgoing.site.line,
                  outgoing.phase, type.empty() ? std::string() : fmt::format(", type {}", type)));
}

void Audit::on_outgoing(const bsp::OutgoingBytes& outgoing) {
  if (outgoing.bytes.empty()) {
    return;
  }
  const std::string_view type = audited_type(outgoing.phase, outgoing.call);
  if (type.empty()) {
    fail(outgoing, type, "bytes of no declared type leave the rank");
  }
  for (const Memory& samples : protected_) {
    if (overlap(samples, outgoing.bytes)) {
      fail(outgoing, type, "samples leave the rank");
    }
  }
  if (!canary_.empty() && std::search(outgoing.bytes.begin(), outgoing.bytes.end(), canary_.begin(),
                                      canary_.end()) != outgoing.bytes.end()) {
    fail(outgoing, type, "a copy of a sample leaves the rank");
  }
  note(type, AuditWay::kMessage, static_cast<std::int64_t>(outgoing.bytes.size()));
}

void Audit::note(std::string_view type, AuditWay way, std::int64_t bytes) {
  AuditEntry& entry = entries_[{std::string(type), way}];
  entry.type = type;
  entry.way = way;
  ++entry.count;
  entry.bytes += bytes;
}

std::vector<AuditEntry> Audit::take() {
  world_.set_phase("audit");
  std::string mine;
  for (const auto& [key, entry] : entries_) {
    mine += to_line(entry);
  }
  entries_.clear();
  const std::vector<std::string> texts = world_.allgather_string(mine);
  std::vector<AuditEntry> all;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    const std::vector<AuditEntry> theirs = parse_lines(texts[rank], static_cast<int>(rank));
    all.insert(all.end(), theirs.begin(), theirs.end());
  }
  world_.set_phase("compute");
  return all;
}

}  // namespace superstep::worker
