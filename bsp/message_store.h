// Puts, gets and sends of one rank that wait for sync(), and the objects they are for.
//
// Semantics of BSPlib (Hill et al. 1998): values are copied when the call is made; at sync() gets
// read before puts are written, puts are written in the order of their source ranks (and, from one
// rank, in the order made), messages of a queue arrive in the same order. Unbuffered puts (hpput)
// are written before all others of their superstep, from the caller's memory into the object's;
// unbuffered gets are read into the caller's memory. Objects are numbered in the order of their
// collective construction, so that numbers agree on all ranks.
//
// On the wire a rank sends at most one stream of records to each rank, after the sizes; a second
// exchange carries the answers to gets, a third one unbuffered puts. When no rank has anything
// pending nothing is sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
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
  // The sync begins: what is kept back is sent now. It ended: all that came is there.
  virtual void before_sync() = 0;
  virtual void after_sync() = 0;
  // "Coarray made at trainer.cpp:40", and the size of its elements.
  virtual std::string describe() const = 0;
  virtual std::int64_t element_bytes() const = 0;

 protected:
  ~MessageTarget() = default;
};

// Does a message keep the job alive when all ranks voted to halt?
enum class Activity : std::uint8_t { kActive, kBackground };

class MessageChecker;

class MessageStore {
 public:
  MessageStore();
  MessageStore(const MessageStore&) = delete;
  MessageStore& operator=(const MessageStore&) = delete;
  ~MessageStore();

  // Not thread-safe; the target must remain valid until remove().
  std::uint32_t add(MessageTarget& target);
  void remove(std::uint32_t id) { targets_.erase(id); }

  void put(int to, std::uint32_t id, std::int64_t offset_bytes, std::span<const std::byte> bytes,
           CallSite site);
  // `bytes` must remain valid and unchanged until the sync() has returned.
  void put_direct(int to, std::uint32_t id, std::int64_t offset_bytes,
                  std::span<const std::byte> bytes, CallSite site);
  std::shared_ptr<GetAnswer> get(int from, std::uint32_t id, std::int64_t offset_bytes,
                                 std::int64_t num_bytes);
  // `into` must remain valid until the sync() has returned.
  void get_direct(int from, std::uint32_t id, std::int64_t offset_bytes, std::span<std::byte> into);
  void send(int to, std::uint32_t id, std::span<const std::byte> bytes, Activity activity);

  // Objects send what they kept back; returns what is pending then.
  PendingMessages begin_sync();
  // Collective, at sync(): `agreed` is the union of pending() over ranks.
  void deliver(World::State& state, PendingMessages agreed);

  // Null unless checks are on. Switched on and off between supersteps.
  MessageChecker* checker() const { return checker_.get(); }
  void set_checker(std::unique_ptr<MessageChecker> checker);

 private:
  struct DirectPut {
    int to = 0;
    std::span<const std::byte> bytes;
  };
  using Stream = std::vector<std::byte>;

  void append(int rank, const MessageRecord& record, std::span<const std::byte> bytes);
  void append_origin(int rank, std::uint32_t id, CallSite site);
  void deliver_messages(World::State& state, PendingMessages agreed);
  MessageTarget& target(std::uint32_t id) const;
  std::vector<Stream> exchange_streams(World::State& state);
  void answer_gets(World::State& state, std::span<const Stream> received);
  std::vector<Outgoing> collect_answers(std::span<const Stream> received,
                                        std::vector<Stream>& answers) const;
  void write_direct_puts(World::State& state, std::span<const Stream> received);
  void apply(std::span<const Stream> received);

  std::uint32_t next_id_ = 0;
  std::map<std::uint32_t, MessageTarget*> targets_;
  PendingMessages pending_;
  std::map<int, Stream> outgoing_;
  std::vector<DirectPut> direct_puts_;
  // By owner, in the order asked.
  std::map<int, std::vector<std::shared_ptr<GetAnswer>>> awaited_;
  std::map<int, std::vector<std::span<std::byte>>> direct_gets_;
  std::unique_ptr<MessageChecker> checker_;
};

}  // namespace superstep::bsp::internal
