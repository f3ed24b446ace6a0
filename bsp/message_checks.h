// Checks of a world's messages while an object of this class lives: a decorator around put, send
// and exchange that costs nothing when it is not there.
//
//   MessageChecks checks(world);                     // collective
//   halo(left)[0] = a;                               // trainer.cpp:40, on rank 1
//   halo(left)[0] = b;                               // trainer.cpp:41, on rank 2
//   world.sync();     // throws on the rank that `left` is: conflicting puts: elements [0, 1) of
//   the
//                     // Coarray made at trainer.cpp:12 are written by rank 1 (put at
//                     // trainer.cpp:40) and by rank 2 (put at trainer.cpp:41) in one superstep
//
// What is found, each with call sites and ranks, as CommunicationError (kRanksDisagree):
// - conflicting puts: puts of different ranks to the same elements in one superstep (their order is
//   defined, by rank, but rarely meant), or an unbuffered put that overlaps another one: sync()
//   throws on the rank whose elements these are, after the superstep was completed;
// - a source changed before sync: the bytes of an unbuffered put differ between call and sync():
//   sync() throws on the rank that made the put, after the superstep was completed;
// - mismatched counts: what a rank sends in alltoallv() or exchange() is not what its peer expects:
//   the call throws on every rank, before anything is moved.
// Collectives whose arguments differ are found without this class, at the next sync().
//
// Cost: a hash of every unbuffered source, the call site (some 40 bytes) with every put, one
// exchange of texts per alltoallv() and exchange().
#pragma once

#include "bsp/world.h"

namespace superstep::bsp {

class MessageChecks {
 public:
  // Collective, between supersteps: right after a sync() or before the first message. The world
  // must outlive the object. One at a time per world.
  explicit MessageChecks(World& world, CallSite site = CallSite::here());
  MessageChecks(const MessageChecks&) = delete;
  MessageChecks& operator=(const MessageChecks&) = delete;
  ~MessageChecks();

 private:
  World& world_;
};

}  // namespace superstep::bsp
