// The ranks of one world within one process: where lanes meet, copy from each other, and where
// their leader (lane 0) moves bytes to and from the other processes.
//
// All members are collective over the lanes of the team, and over processes through the leader.
// Memory named in a call must remain valid until it returns. Errors that reach only some lanes
// leave the team unusable; the caller records them (Failure), which releases the others.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bsp/call_log.h"
#include "bsp/lane_barrier.h"
#include "bsp/patience.h"
#include "bsp/topology.h"
#include "bsp/transport.h"
#include "bsp/world.h"

namespace superstep::bsp::internal {

// What a rank brings to a meeting of all ranks, and what comes out: the union over ranks.
struct PendingMessages {
  bool puts_or_sends = false;
  bool direct_puts = false;
  bool gets = false;
  bool active = false;  // sent something or did not vote to halt
};

class Team {
 public:
  Team(std::shared_ptr<const Topology> topology, std::unique_ptr<Transport> transport,
       std::uint32_t context, WaitPolicy wait_policy);

  const Topology& topology() const { return *topology_; }
  Transport& transport() { return *transport_; }
  const WaitPolicy& wait_policy() const { return wait_policy_; }
  std::uint32_t context() const { return context_; }
  int process() const { return process_; }
  int num_lanes() const { return static_cast<int>(slots_.size()); }

  // As World::exchange.
  void exchange(int lane, const CallLog& log, std::span<const Outgoing> outgoing,
                std::span<const Incoming> incoming, Patience& patience);

  // A barrier over all ranks that compares the logs: on a difference every rank throws
  // CommunicationError (kRanksDisagree) with the first differing call.
  PendingMessages synchronise(int lane, const CallLog& log, PendingMessages pending,
                              Patience& patience);

 private:
  // What lanes post for each other before they meet.
  struct alignas(64) LaneSlot {
    const CallLog* log = nullptr;
    std::uint64_t hash = 0;
    PendingMessages pending;
    std::span<const Outgoing> outgoing;
    std::span<const Incoming> incoming;
  };

  void require_agreement_of_lanes();
  void synchronise_processes(Patience& patience);
  std::string diagnose_all(Patience& patience);
  void copy_from_lanes(int lane) const;
  std::span<const std::byte> find_message(int from, int to, int nth) const;
  void exchange_with_processes(Patience& patience);
  void collect_messages();

  std::shared_ptr<const Topology> topology_;
  std::unique_ptr<Transport> transport_;
  std::uint32_t context_;
  WaitPolicy wait_policy_;
  int process_;
  std::span<const int> ranks_;  // of this process, by lane
  LaneBarrier barrier_;
  std::vector<LaneSlot> slots_;  // by lane

  // Written by the leader in a serial section, read by all lanes after it.
  std::string disagreement_;
  PendingMessages agreed_;

  // The leader's, reused.
  std::vector<ProcessSend> sends_;
  std::vector<ProcessReceive> receives_;
};

}  // namespace superstep::bsp::internal
