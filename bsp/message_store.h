// Puts, gets and sends of one rank that wait for sync(), and the objects they are for.
//
// Semantics of BSPlib (Hill et al. 1998): values are copied when the call is made; at sync() gets
// read before puts are written, puts are written in the order of their source ranks (and, from one
// rank, in the order made), messages of a queue arrive in the same order. Objects are numbered in
// the order of their collective construction, so that numbers agree on all ranks.
//
// On the wire a rank sends at most one stream of records to each rank, after the sizes; a second
// message carries the answers to gets. When no rank has anything pending nothing is sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "bsp/future.h"
#include "bsp/message_record.h"
#include "bsp/team.h"
#include "bsp/world.h"

namespace superstep::bsp::internal {

// What a Var, Coarray or Queue is to the store.
class MessageTarget {
 public:
  MessageTarget() = default;
  MessageTarget(const MessageTarget&) = delete;
  MessageTarget& operator=(const MessageTarget&) = delete;

  // The memory that puts write and gets read; empty for a queue.
  virtual std::span<std::byte> memory() = 0;
  // A superstep ends: the messages of the one before are gone, those of this one come, in order.
  virtual void clear_messages() = 0;
  virtual void receive(int source, std::span<const std::byte> bytes) = 0;
  virtual void end_delivery() = 0;

 protected:
  ~MessageTarget() = default;
};

class MessageStore {
 public:
  // Not thread-safe; the target must remain valid until remove().
  std::uint32_t add(MessageTarget& target);
  void remove(std::uint32_t id) { targets_.erase(id); }

  void put(int to, std::uint32_t id, std::int64_t offset_bytes, std::span<const std::byte> bytes);
  std::shared_ptr<GetAnswer> get(int from, std::uint32_t id, std::int64_t offset_bytes,
                                 std::int64_t num_bytes);
  void send(int to, std::uint32_t id, std::span<const std::byte> bytes);

  PendingMessages pending() const { return pending_; }
  // Collective, at sync(): `agreed` is the union of pending() over ranks.
  void deliver(World::State& state, PendingMessages agreed);

 private:
  using Stream = std::vector<std::byte>;

  void append(int rank, const MessageRecord& record, std::span<const std::byte> bytes);
  MessageTarget& target(std::uint32_t id) const;
  std::vector<Stream> exchange_streams(World::State& state);
  void answer_gets(World::State& state, std::span<const Stream> received);
  void apply(std::span<const Stream> received);

  std::uint32_t next_id_ = 0;
  std::map<std::uint32_t, MessageTarget*> targets_;
  PendingMessages pending_;
  std::map<int, Stream> outgoing_;
  std::map<int, std::vector<std::shared_ptr<GetAnswer>>> awaited_;  // by owner, in the order asked
};

}  // namespace superstep::bsp::internal
