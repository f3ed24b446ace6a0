// What MessageChecks (bsp/message_checks.h) looks at; for the sources of this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "bsp/call_site.h"
#include "bsp/message_store.h"
#include "bsp/world.h"

namespace superstep::bsp::internal {

// Of one rank, for one superstep after the other. What is wrong is collected, so that the sync()
// ends on all ranks alike, and thrown by report().
class MessageChecker {
 public:
  using TargetOf = std::function<const MessageTarget&(std::uint32_t id)>;

  // An unbuffered put: its source must be the same at the sync().
  void remember_source(int to, std::span<const std::byte> bytes, CallSite site);
  void check_sources();

  // The puts that came from one rank.
  void note_puts(std::span<const std::byte> stream, int source);
  // Of those noted: from different ranks to the same elements, or unbuffered ones that overlap any.
  void check_conflicts(const TargetOf& target_of);

  // Throws CommunicationError (kRanksDisagree) with what was found since the last report.
  void report(int rank);

 private:
  struct Source {
    int to = 0;
    std::span<const std::byte> bytes;
    Hash128 hash;
    CallSite site;
  };
  struct Put {
    std::uint32_t id = 0;
    std::int64_t begin = 0;  // bytes
    std::int64_t end = 0;
    int source = 0;
    bool is_direct = false;
    std::string origin;
  };

  std::vector<Source> sources_;
  std::vector<Put> puts_;
  std::vector<std::string> wrong_;
};

// With checks on: every rank learns what the others send and expect, and all of them throw
// CommunicationError (kRanksDisagree) when two sides differ. Collective, before the exchange.
void check_counts(const char* where, World::State& state, std::span<const Outgoing> outgoing,
                  std::span<const Incoming> incoming, CallSite site);

}  // namespace superstep::bsp::internal
