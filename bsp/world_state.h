// What is behind a World; for the sources of this folder only.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "bsp/call_log.h"
#include "bsp/environment.h"
#include "bsp/execute.h"
#include "bsp/message_store.h"
#include "bsp/node_allreduce.h"
#include "bsp/status_service.h"
#include "bsp/team.h"
#include "bsp/world.h"

namespace superstep::bsp {

namespace internal {

// Shared by the worlds of one rank.
struct RankContext {
  Failure* failure = nullptr;
  StatusService* statuses = nullptr;
  StatusWriter status;
  CollectiveChecks checks = CollectiveChecks::kAtSync;
  OutgoingObserver* observer = nullptr;
  const char* phase = "";
};

// What a compiled collective was compiled for; counts: of the sharded ones.
struct PlanKey {
  CallKind kind = CallKind::kNone;
  int root = 0;
  std::vector<std::int64_t> counts;
  friend bool operator==(const PlanKey&, const PlanKey&) = default;
};

}  // namespace internal

struct World::State {
  std::shared_ptr<internal::Team> team;
  std::shared_ptr<internal::RankContext> rank_context;
  int lane = 0;
  int rank = 0;
  bool is_root_world = false;
  std::chrono::milliseconds deadline{};

  std::uint64_t superstep = 0;
  std::uint64_t calls = 0;
  internal::CallLog log;
  TrafficCounters traffic;
  internal::MessageStore messages;
  bool votes_to_halt = false;
  bool all_halted = false;
  std::array<std::vector<int>, 3> ranks_at;  // by Level

  // A few compiled collectives and the memory they work in, reused.
  struct CachedPlan {
    internal::PlanKey key;
    internal::RankPlan plan;
    std::int64_t result_offset = 0;
  };
  std::vector<std::unique_ptr<CachedPlan>> plans;
  std::size_t next_plan = 0;
  AlignedBuffer<std::byte> scratch;
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  std::unique_ptr<internal::NodeAllreduce> node_allreduce;  // made at the first use

  int size() const { return team->topology().size(); }

  // Tells the observer, if there is one, what is about to leave the rank in the call in work.
  void tell_outgoing(std::span<const std::byte> bytes, int to) const;
  // One round of messages, without the bookkeeping of a call of its own.
  void exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives);
  // A barrier that compares the logs.
  internal::PendingMessages synchronise(internal::PendingMessages pending);
  // Every rank's `value`, without the bookkeeping of a call of its own.
  std::vector<std::uint64_t> allgather_raw(std::uint64_t value);
  // Valid only in the process of their rank.
  std::vector<const void*> allgather_addresses(const void* address);
  std::vector<std::string> allgather_texts_raw(std::string_view mine);

  void execute(const internal::RankPlan& plan, std::span<const internal::MemoryPiece> pieces,
               DataType type, ReduceOp op, std::span<std::byte* const> address_spaces = {});
  std::byte* scratch_bytes(std::int64_t num_bytes);

  // Runs `operation(patience)`; records errors that other lanes must be released from, and turns a
  // passed deadline into a report.
  template <typename Operation>
  auto communicate(Operation&& operation);
  void dump_stacks(std::span<const internal::RankStatus> statuses,
                   std::span<const int> missing) const;
  [[noreturn]] void fail_deadline(std::chrono::milliseconds waited);
  void record_failure(const Error& error);
};

// For Var, Coarray, Queue, SharedArray and Environment.
struct WorldAccess {
  static World::State& state(World& world) { return *world.state_; }
  static std::unique_ptr<World> make(std::unique_ptr<World::State> state) {
    return std::unique_ptr<World>(new World(std::move(state)));  // the constructor is private
  }
};

namespace internal {

// One collective call of a rank: logged, on the status board while it lasts, and checked before it
// starts when every call is to be checked.
class CollectiveCall {
 public:
  CollectiveCall(World::State& state, const CallRecord& record);
  CollectiveCall(const CollectiveCall&) = delete;
  CollectiveCall& operator=(const CollectiveCall&) = delete;
  ~CollectiveCall() { state_.rank_context->status.leave_call(); }

 private:
  World::State& state_;
};

}  // namespace internal

template <typename Operation>
auto World::State::communicate(Operation&& operation) {
  // The leader can ask the processes of other nodes: it reports first.
  constexpr std::chrono::milliseconds kLeaderFirst = 2 * internal::StatusService::kAnswerTime;
  const bool is_leader = lane == 0;
  const bool waits_for_leader = !is_leader && team->transport().num_processes() > 1;
  internal::Patience patience(team->wait_policy(),
                              waits_for_leader ? deadline + kLeaderFirst : deadline,
                              is_leader ? rank_context->statuses : nullptr);
  try {
    return operation(patience);
  } catch (const internal::DeadlinePassed& passed) {
    fail_deadline(passed.waited);
  } catch (const internal::PeerFailure&) {
    throw;
  } catch (const internal::CallMismatch&) {
    throw;
  } catch (const Error& error) {
    record_failure(error);
    throw;
  }
}

}  // namespace superstep::bsp
