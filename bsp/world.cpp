#include "bsp/world.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/checked_cast.h"
#include "base/clock.h"
#include "base/error.h"
#include "bsp/message_checker.h"
#include "bsp/outgoing_observer.h"
#include "bsp/stack_dump.h"
#include "bsp/transport.h"
#include "bsp/world_state.h"

namespace superstep::bsp {

using internal::CallKind;
using internal::CallRecord;
using internal::CollectiveCall;

World::World(std::unique_ptr<State> state) : state_(std::move(state)) {
  const internal::Topology& topology = state_->team->topology();
  const auto me = static_cast<std::size_t>(state_->rank);
  for (int rank = 0; rank < topology.size(); ++rank) {
    const auto i = static_cast<std::size_t>(rank);
    if (topology.process_of[i] == topology.process_of[me]) {
      state_->ranks_at[static_cast<std::size_t>(Level::kProcess)].push_back(rank);
    }
    if (topology.node_of[i] == topology.node_of[me]) {
      state_->ranks_at[static_cast<std::size_t>(Level::kNode)].push_back(rank);
    }
    state_->ranks_at[static_cast<std::size_t>(Level::kWorld)].push_back(rank);
  }
}

World::World(World&&) noexcept = default;
World::~World() = default;

int World::rank() const {
  return state_->rank;
}
int World::size() const {
  return state_->size();
}
int World::process() const {
  return state_->team->process();
}
int World::num_processes() const {
  return state_->team->topology().num_processes();
}
int World::lane() const {
  return state_->lane;
}
int World::num_nodes() const {
  return state_->team->topology().num_nodes;
}
int World::node_of(int rank) const {
  return state_->team->topology().node_of.at(static_cast<std::size_t>(rank));
}
std::span<const int> World::ranks_at(Level level) const {
  return state_->ranks_at[static_cast<std::size_t>(level)];
}
std::string World::host_of(int rank) const {
  return state_->team->topology().host_of.at(static_cast<std::size_t>(rank));
}

std::uint64_t World::superstep() const {
  return state_->superstep;
}
void World::vote_to_halt() {
  state_->votes_to_halt = true;
}
bool World::all_halted() const {
  return state_->all_halted;
}
void World::set_phase(const char* phase) {
  state_->rank_context->status.set_phase(phase);
  state_->rank_context->phase = phase;
}
void World::set_outgoing_observer(OutgoingObserver* observer) {
  state_->rank_context->observer = observer;
}
void World::set_deadline(std::chrono::milliseconds deadline) {
  state_->deadline = deadline;
}

const TrafficCounters& World::traffic() const {
  return state_->traffic;
}
void World::reset_traffic() {
  state_->traffic = {};
}

void World::sync(CallSite site) {
  State& state = *state_;
  const CollectiveCall call(state, {.kind = CallKind::kSync, .site = site});
  const Stopwatch watch;
  internal::PendingMessages mine = state.messages.begin_sync();
  mine.active |= !state.votes_to_halt;
  const internal::PendingMessages agreed = state.synchronise(mine);
  state.traffic.sync_wait += watch.elapsed();
  state.messages.deliver(state, agreed);
  state.votes_to_halt = false;
  state.all_halted = !agreed.active;
  state.log.clear();
  ++state.superstep;
  ++state.traffic.num_syncs;
  if (state.is_root_world) {
    state.rank_context->status.set_superstep(state.superstep);
  }
  if (state.messages.checker() != nullptr) {
    state.messages.checker()->report(state.rank);
  }
}

void World::exchange(std::span<const Outgoing> outgoing, std::span<const Incoming> incoming,
                     CallSite site) {
  State& state = *state_;
  const auto require_rank = [&](int rank) {
    if (rank < 0 || rank >= state.size()) {
      throw InvalidArgument(
          "World::exchange",
          fmt::format("rank out of range: got {}, expected 0 to {}", rank, state.size() - 1));
    }
  };
  for (const Outgoing& message : outgoing) {
    require_rank(message.to);
  }
  for (const Incoming& message : incoming) {
    require_rank(message.from);
  }
  const CollectiveCall call(state, {.kind = CallKind::kExchange, .site = site});
  internal::check_counts("World::exchange", state, outgoing, incoming, site);
  state.exchange(outgoing, incoming);
}

std::vector<std::string> World::allgather_string(std::string_view mine, CallSite site) {
  const CollectiveCall call(*state_, {.kind = CallKind::kAllgatherString, .site = site});
  return state_->allgather_texts_raw(mine);
}

void World::require_same(std::string_view name, std::string_view value, CallSite site) {
  const CollectiveCall call(*state_, {.kind = CallKind::kRequireSame, .site = site});
  const std::vector<std::string> values = state_->allgather_texts_raw(value);
  std::vector<int> deviating;
  for (std::size_t rank = 0; rank < values.size(); ++rank) {
    if (values[rank] != values[0]) {
      deviating.push_back(static_cast<int>(rank));
    }
  }
  if (!deviating.empty()) {
    throw CommunicationError(
        "World::require_same",
        fmt::format(
            "{} is not the same on all ranks: got \"{}\" on ranks {}, expected \"{}\" as on rank 0",
            name, values[static_cast<std::size_t>(deviating.front())],
            internal::describe_ranks(deviating), values[0]),
        ExitCode::kRanksDisagree);
  }
}

// --- State ---

void World::State::tell_outgoing(std::span<const std::byte> bytes, int to) const {
  if (rank_context->observer != nullptr) {
    const CallRecord& call = log.last();
    rank_context->observer->on_outgoing({.call = internal::name_of(call.kind),
                                         .site = call.site,
                                         .phase = rank_context->phase,
                                         .bytes = bytes,
                                         .to = to});
  }
}

void World::State::exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) {
  if (rank_context->observer != nullptr) {
    for (const Outgoing& message : sends) {
      if (message.to != rank) {
        tell_outgoing(message.bytes, message.to);
      }
    }
  }
  communicate(
      [&](internal::Patience& patience) { team->exchange(lane, log, sends, receives, patience); });
  for (const Outgoing& message : sends) {
    traffic.bytes_sent += message.to == rank ? 0 : message.bytes.size();
  }
  for (const Incoming& message : receives) {
    traffic.bytes_received += message.from == rank ? 0 : message.bytes.size();
  }
}

internal::PendingMessages World::State::synchronise(internal::PendingMessages pending) {
  return communicate([&](internal::Patience& patience) {
    return team->synchronise(lane, log, pending, patience);
  });
}

namespace {

template <typename T>
std::vector<T> allgather_values(World::State& state, const T& value) {
  std::vector<T> values(static_cast<std::size_t>(state.size()));
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sends.push_back({static_cast<int>(i), std::as_bytes(std::span(&value, 1))});
    receives.push_back({static_cast<int>(i), std::as_writable_bytes(std::span(&values[i], 1))});
  }
  state.exchange(sends, receives);
  return values;
}

}  // namespace

std::vector<std::uint64_t> World::State::allgather_raw(std::uint64_t value) {
  return allgather_values(*this, value);
}

std::vector<const void*> World::State::allgather_addresses(const void* address) {
  return allgather_values(*this, address);
}

std::vector<std::string> World::State::allgather_texts_raw(std::string_view mine) {
  const std::vector<std::uint64_t> sizes = allgather_raw(mine.size());
  std::vector<std::string> texts(sizes.size());
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    texts[i].resize(sizes[i]);
    sends.push_back({static_cast<int>(i), std::as_bytes(std::span(mine))});
    receives.push_back({static_cast<int>(i), std::as_writable_bytes(std::span(texts[i]))});
  }
  exchange(sends, receives);
  return texts;
}

std::byte* World::State::scratch_bytes(std::int64_t num_bytes) {
  if (scratch.size() < num_bytes) {
    scratch = AlignedBuffer<std::byte>(num_bytes, Fill::kTailOnly);
  }
  return scratch.data();
}

void World::State::fail_deadline(std::chrono::milliseconds waited) {
  const internal::Topology& topology = team->topology();
  std::vector<internal::RankStatus> statuses = rank_context->statuses->ask(topology.root_rank_of);
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    statuses[i].superstep = statuses[i].visible ? statuses[i].superstep : superstep;
    statuses[i].host = topology.host_of[i];
  }
  const internal::MissingReport report = internal::report_missing(
      statuses, {.kind = log.last().kind, .context = team->context(), .calls = calls});
  dump_stacks(statuses, report.missing);
  const ExitCode exit_code =
      report.ranks_disagree ? ExitCode::kRanksDisagree : ExitCode::kStoppedResumable;
  const std::string what = fmt::format("waited {} in {}, superstep {}: {}", format_duration(waited),
                                       internal::describe(log.last()), superstep, report.text);
  rank_context->failure->raise(topology.root_rank_of[static_cast<std::size_t>(rank)], what,
                               exit_code);
  throw CommunicationError("World", what, exit_code);
}

// One rank of each machine asks the missing ones that it can reach for their stacks; all leave them
// time to answer before the job ends.
void World::State::dump_stacks(std::span<const internal::RankStatus> statuses,
                               std::span<const int> missing) const {
  constexpr std::chrono::milliseconds kTimeToAnswer{300};
  const auto is_missing = [&](int other) {
    return std::find(missing.begin(), missing.end(), other) != missing.end();
  };
  const std::span<const int> node = ranks_at[static_cast<std::size_t>(Level::kNode)];
  const auto asking = std::find_if_not(node.begin(), node.end(), is_missing);
  if (missing.empty() || asking == node.end()) {
    return;
  }
  for (const int other : missing) {
    const internal::RankStatus& status = statuses[static_cast<std::size_t>(other)];
    if (*asking == rank && std::find(node.begin(), node.end(), other) != node.end()) {
      internal::request_stack(status.process_id, status.thread_id);
    }
  }
  std::this_thread::sleep_for(kTimeToAnswer);
}

void World::State::record_failure(const Error& error) {
  rank_context->failure->raise(team->topology().root_rank_of[static_cast<std::size_t>(rank)],
                               error.what(), error.exit_code());
}

internal::CollectiveCall::CollectiveCall(World::State& state, const CallRecord& record)
    : state_(state) {
  state.log.append(record);
  state.rank_context->status.enter_call(record.kind, state.team->context(), ++state.calls,
                                        record.site);
  if (state.rank_context->checks == CollectiveChecks::kEveryCall &&
      record.kind != CallKind::kSync) {
    static_cast<void>(state.synchronise({}));
  }
}

int wire_version() {
  return internal::kWireVersion;
}

}  // namespace superstep::bsp
