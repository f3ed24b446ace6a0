#include "bsp/status_board.h"

#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "base/check.h"
#include "bsp/source_path.h"
#include "bsp/stack_dump.h"

namespace superstep::bsp::internal {

namespace {

// The tail of a path is what tells files apart.
std::string_view tail(std::string_view text, std::size_t most) {
  return text.size() <= most ? text : text.substr(text.size() - most);
}

std::string describe_last_call(const RankStatus& status) {
  if (status.site.empty()) {
    return "no collective call yet";
  }
  return fmt::format("last call {} at {}", name_of(status.kind), status.site);
}

std::string describe_missing(int rank, const RankStatus& status) {
  if (!status.visible) {
    return fmt::format("rank {}: no answer from its node, last seen at superstep {}", rank,
                       status.superstep);
  }
  const std::string system = status.doing.empty() ? "" : fmt::format(" ({})", status.doing);
  const std::string phase = status.phase.empty() ? "" : fmt::format(", phase \"{}\"", status.phase);
  switch (status.state) {
    case RankState::kNotStarted:
      return fmt::format("rank {}: not started", rank);
    case RankState::kFinished:
      return fmt::format("rank {}: finished after superstep {}, {}", rank, status.superstep,
                         describe_last_call(status));
    case RankState::kInCall:
      return fmt::format("rank {}: waits in {} at {}, superstep {}{}{}", rank, name_of(status.kind),
                         status.site, status.superstep, phase, system);
    case RankState::kComputing:
      break;
  }
  return fmt::format("rank {}: computing in superstep {}{}, {}{}", rank, status.superstep, phase,
                     describe_last_call(status), system);
}

bool has_arrived(const RankStatus& status, const AwaitedCall& awaited) {
  return status.visible && status.context == awaited.context &&
         (status.calls > awaited.calls ||
          (status.calls == awaited.calls && status.state == RankState::kInCall));
}

}  // namespace

template <std::size_t kWords>
void SharedText<kWords>::store(std::string_view text) {
  std::array<char, kCharacters> characters{};
  const std::string_view kept = tail(text, kCharacters - 1);
  std::memcpy(characters.data(), kept.data(), kept.size());
  for (std::size_t i = 0; i < kWords; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, characters.data() + i * sizeof word, sizeof word);
    words_[i].store(word, std::memory_order_relaxed);
  }
}

template <std::size_t kWords>
std::string SharedText<kWords>::load() const {
  std::array<char, kCharacters> characters{};
  for (std::size_t i = 0; i < kWords; ++i) {
    const std::uint64_t word = words_[i].load(std::memory_order_relaxed);
    std::memcpy(characters.data() + i * sizeof word, &word, sizeof word);
  }
  characters.back() = '\0';
  return characters.data();
}

std::int64_t StatusBoard::bytes_for(int num_ranks) {
  return num_ranks * static_cast<std::int64_t>(sizeof(StatusSlot));
}

StatusBoard::StatusBoard(SharedMapping mapping, std::vector<bool> visible)
    : mapping_(std::move(mapping)), visible_(std::move(visible)) {
  SUPERSTEP_CHECK(mapping_.size() >= bytes_for(num_ranks()), "status board too small");
}

StatusSlot& StatusBoard::slot(int rank) const {
  // Zero bytes are valid entries: every field is an atomic integer.
  return reinterpret_cast<StatusSlot*>(mapping_.data())[rank];
}

RankStatus StatusBoard::read(int rank) const {
  if (!visible_[static_cast<std::size_t>(rank)]) {
    return {};
  }
  const StatusSlot& from = slot(rank);
  RankStatus status;
  status.visible = true;
  status.state = static_cast<RankState>(from.state.load(std::memory_order_relaxed));
  status.kind = static_cast<CallKind>(from.kind.load(std::memory_order_relaxed));
  status.context = from.context.load(std::memory_order_relaxed);
  status.calls = from.calls.load(std::memory_order_relaxed);
  status.superstep = from.superstep.load(std::memory_order_relaxed);
  if (status.kind != CallKind::kNone) {
    status.site = fmt::format("{}:{}", from.file.load(), from.line.load(std::memory_order_relaxed));
  }
  status.phase = from.phase.load();
  status.process_id = from.process_id.load(std::memory_order_relaxed);
  status.thread_id = from.thread_id.load(std::memory_order_relaxed);
  return status;
}

RankStatus StatusBoard::observe(int rank) const {
  RankStatus status = read(rank);
  status.doing = system_state(status.process_id, status.thread_id);
  return status;
}

void StatusWriter::enter_call(CallKind kind, std::uint32_t context, std::uint64_t calls,
                              CallSite site) {
  slot_->kind.store(static_cast<std::uint32_t>(kind), std::memory_order_relaxed);
  slot_->context.store(context, std::memory_order_relaxed);
  slot_->calls.store(calls, std::memory_order_relaxed);
  slot_->line.store(site.line, std::memory_order_relaxed);
  if (site.file != last_file_) {
    last_file_ = site.file;
    slot_->file.store(path_in_project(site.file));
  }
  set_state(RankState::kInCall);
}

void StatusWriter::leave_call() {
  set_state(RankState::kComputing);
}

void StatusWriter::set_superstep(std::uint64_t superstep) {
  slot_->superstep.store(superstep, std::memory_order_relaxed);
}

void StatusWriter::set_phase(const char* phase) {
  if (phase != last_phase_) {
    last_phase_ = phase;
    slot_->phase.store(phase);
  }
}

void StatusWriter::set_state(RankState state) {
  slot_->state.store(static_cast<std::uint32_t>(state), std::memory_order_relaxed);
}

void StatusWriter::set_thread() {
  slot_->process_id.store(::getpid(), std::memory_order_relaxed);
  slot_->thread_id.store(this_thread(), std::memory_order_relaxed);
}

namespace {

// Ranks that had arrived when a signal stopped them, or whose process has gone since.
std::vector<int> ranks_that_do_not_run(std::span<const RankStatus> statuses) {
  std::vector<int> ranks;
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    const std::string& doing = statuses[rank].doing;
    if (doing.starts_with("stopped") || doing == "dead") {
      ranks.push_back(static_cast<int>(rank));
    }
  }
  return ranks;
}

}  // namespace

MissingReport report_missing(std::span<const RankStatus> statuses, const AwaitedCall& awaited) {
  std::vector<int> missing;
  std::vector<int> elsewhere;
  for (std::size_t rank = 0; rank < statuses.size(); ++rank) {
    const RankStatus& status = statuses[rank];
    if (!has_arrived(status, awaited)) {
      missing.push_back(static_cast<int>(rank));
    } else if (status.calls == awaited.calls && status.kind != awaited.kind) {
      elsewhere.push_back(static_cast<int>(rank));
    }
  }
  MissingReport report;
  report.ranks_disagree = missing.empty() && !elsewhere.empty();
  std::string_view what = report.ranks_disagree ? "wait in another call" : "did not arrive";
  if (missing.empty() && elsewhere.empty()) {
    missing = ranks_that_do_not_run(statuses);
    what = "arrived, but do not run";
  }
  const std::vector<int>& named = report.ranks_disagree ? elsewhere : missing;
  report.missing = missing;
  report.text = named.empty() ? "all ranks arrived, but messages between them are missing"
                              : fmt::format("ranks {} {}:", describe_ranks(named), what);
  for (const int rank : named) {
    const RankStatus& status = statuses[static_cast<std::size_t>(rank)];
    report.text += "\n  " + describe_missing(rank, status) +
                   (status.host.empty() ? "" : "; host " + status.host);
  }
  return report;
}

}  // namespace superstep::bsp::internal
