// The stream of puts, gets and sends from one rank to another: records, each followed by its bytes.
//
//       0   u32   kind: 0 put, 1 get (no bytes follow), 2 send, 3 unbuffered put and 4 unbuffered
//                 get (no bytes follow; theirs travel outside of the stream), 5 the call site of
//                 the put before it, when checks are on: text
//       4   u32   number of the object
//       8   i64   offset in the object's memory, in bytes
//      16   i64   length, in bytes
//
// In the byte order of the machine: ranks of different instruction sets do not run together.
//
//   append_message(stream, {.kind = MessageKind::kSend, .id = 3, .num_bytes = 8}, bytes);
//   for (MessageReader reader(stream, source); reader.next();) { use(reader.record(),
//   reader.bytes()); }
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace superstep::bsp::internal {

enum class MessageKind : std::uint32_t { kPut, kGet, kSend, kDirectPut, kDirectGet, kOrigin };

// What crosses besides the bytes of puts, sends and gets: a record per message and, in a superstep
// with messages, the length of the stream to every other rank.
inline constexpr std::int64_t kStreamLengthBytes = 8;

struct MessageRecord {
  MessageKind kind = MessageKind::kPut;
  std::uint32_t id = 0;
  std::int64_t offset_bytes = 0;
  std::int64_t num_bytes = 0;
};
inline constexpr std::int64_t kRecordBytes = sizeof(MessageRecord);

// Do the message's bytes follow its record?
bool carries_bytes(MessageKind kind);

// `bytes` are record.num_bytes long; none unless carries_bytes().
void append_message(std::vector<std::byte>& stream, const MessageRecord& record,
                    std::span<const std::byte> bytes);

// Reads a stream from the front; the stream must remain valid.
class MessageReader {
 public:
  MessageReader(std::span<const std::byte> stream, int source) : rest_(stream), source_(source) {}

  // False at the end. Throws CommunicationError (kRanksDisagree) for what append_message() does not
  // write: a record or bytes cut short, an unknown kind, a negative offset or length.
  bool next();

  const MessageRecord& record() const { return record_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> rest_;
  int source_;
  MessageRecord record_;
  std::span<const std::byte> bytes_;
};

// The part of an object's memory that a put or get is about. Throws CommunicationError
// (kRanksDisagree) when it is not within.
std::span<std::byte> memory_of(const MessageRecord& record, std::span<std::byte> memory,
                               int source);

}  // namespace superstep::bsp::internal
