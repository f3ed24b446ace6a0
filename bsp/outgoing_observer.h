// Is told of everything that is about to leave a rank through its worlds, before it does.
//
//   class Witness : public OutgoingObserver {
//     void on_outgoing(const OutgoingBytes& outgoing) override { bytes += outgoing.bytes.size(); }
//   };
//   world.set_outgoing_observer(&witness);       // this world and those split from it
//
// Messages and collectives are told, those within a process and through the memory of a node
// included. What a rank writes into a SharedArray or a file is not: whoever lets others read there
// knows what it is. Costs nothing while there is no observer but one comparison per message.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "bsp/call_site.h"

namespace superstep::bsp {

struct OutgoingBytes {
  std::string_view call;   // "allgather"
  CallSite site;           // of the call
  std::string_view phase;  // World::set_phase(); empty before the first
  std::span<const std::byte> bytes;
  int to = 0;  // the rank that gets them; -1: all ranks of the node read them
};

class OutgoingObserver {
 public:
  virtual ~OutgoingObserver() = default;
  // What it throws, the collective call throws on this rank, and nothing is sent.
  virtual void on_outgoing(const OutgoingBytes& outgoing) = 0;
};

}  // namespace superstep::bsp
