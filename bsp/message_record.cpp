#include "bsp/message_record.h"

#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::bsp::internal {

namespace {

[[noreturn]] void throw_bad_message(int source, const std::string& what) {
  throw CommunicationError("World::sync", fmt::format("messages from rank {}: {}", source, what),
                           ExitCode::kRanksDisagree);
}

}  // namespace

bool carries_bytes(MessageKind kind) {
  return kind == MessageKind::kPut || kind == MessageKind::kSend || kind == MessageKind::kOrigin;
}

void append_message(std::vector<std::byte>& stream, const MessageRecord& record,
                    std::span<const std::byte> bytes) {
  const auto header = std::as_bytes(std::span(&record, 1));
  stream.insert(stream.end(), header.begin(), header.end());
  stream.insert(stream.end(), bytes.begin(), bytes.end());
}

bool MessageReader::next() {
  if (rest_.empty()) {
    return false;
  }
  if (rest_.size() < sizeof record_) {
    throw_bad_message(source_, fmt::format("cut short: got {} bytes, expected a record of {}",
                                           rest_.size(), sizeof record_));
  }
  std::memcpy(&record_, rest_.data(), sizeof record_);
  rest_ = rest_.subspan(sizeof record_);
  if (record_.kind > MessageKind::kOrigin || record_.offset_bytes < 0 || record_.num_bytes < 0) {
    throw_bad_message(source_, fmt::format("no record: got kind {}, offset {}, length {}",
                                           static_cast<std::uint32_t>(record_.kind),
                                           record_.offset_bytes, record_.num_bytes));
  }
  const std::int64_t follow = carries_bytes(record_.kind) ? record_.num_bytes : 0;
  if (std::cmp_greater(follow, rest_.size())) {
    throw_bad_message(source_, fmt::format("cut short: got {} bytes of a message, expected {}",
                                           rest_.size(), follow));
  }
  bytes_ = rest_.first(static_cast<std::size_t>(follow));
  rest_ = rest_.subspan(bytes_.size());
  return true;
}

std::span<std::byte> memory_of(const MessageRecord& record, std::span<std::byte> memory,
                               int source) {
  const auto size = static_cast<std::int64_t>(memory.size());
  if (record.offset_bytes > size || record.num_bytes > size - record.offset_bytes) {
    throw_bad_message(source, fmt::format("outside of object {}: got {} bytes from {}, expected at "
                                          "most {} in all",
                                          record.id, record.num_bytes, record.offset_bytes, size));
  }
  return memory.subspan(static_cast<std::size_t>(record.offset_bytes),
                        static_cast<std::size_t>(record.num_bytes));
}

}  // namespace superstep::bsp::internal
