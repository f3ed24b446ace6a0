// Streams between ranks: what is written is read, what is damaged is refused before memory is
// touched.
#include "bsp/message_record.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::bsp::internal {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> bytes_of(std::size_t count) {
  return std::vector<std::byte>(count, std::byte{7});
}

std::vector<std::byte> stream_of(const MessageRecord& record, std::size_t num_bytes) {
  std::vector<std::byte> stream;
  append_message(stream, record, bytes_of(num_bytes));
  return stream;
}

std::string refusal(std::span<const std::byte> stream) {
  try {
    std::vector<std::byte> memory(16);
    for (MessageReader reader(stream, 3); reader.next();) {
      memory_of(reader.record(), memory, 3);
    }
  } catch (const CommunicationError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kRanksDisagree);
    return error.what();
  }
  return "nothing";
}

TEST(MessageReader, ReadsWhatWasAppended) {
  std::vector<std::byte> stream;
  append_message(stream, {.kind = MessageKind::kPut, .id = 4, .offset_bytes = 8, .num_bytes = 3},
                 bytes_of(3));
  append_message(stream, {.kind = MessageKind::kGet, .id = 5, .offset_bytes = 0, .num_bytes = 9},
                 {});
  append_message(stream, {.kind = MessageKind::kSend, .id = 6}, {});
  MessageReader reader(stream, 0);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.record().id, 4U);
  EXPECT_EQ(reader.record().offset_bytes, 8);
  EXPECT_EQ(reader.bytes().size(), 3U);
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.record().num_bytes, 9);
  EXPECT_TRUE(reader.bytes().empty());
  ASSERT_TRUE(reader.next());
  EXPECT_EQ(reader.record().kind, MessageKind::kSend);
  EXPECT_FALSE(reader.next());
}

TEST(MessageReader, RefusesEveryTruncation) {
  const std::vector<std::byte> stream = stream_of({.num_bytes = 5}, 5);
  EXPECT_EQ(refusal(stream), "nothing");
  for (std::size_t size = 1; size < stream.size(); ++size) {
    EXPECT_THAT(refusal(std::span(stream).first(size)),
                HasSubstr("messages from rank 3: cut short"))
        << size;
  }
}

TEST(MessageReader, RefusesWhatIsNoRecord) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_THAT(refusal(stream_of({.kind = static_cast<MessageKind>(6)}, 0)),
              HasSubstr("got kind 6, offset 0, length 0"));
  EXPECT_THAT(refusal(stream_of({.num_bytes = -1}, 0)), HasSubstr("length -1"));
  EXPECT_THAT(refusal(stream_of({.offset_bytes = -8}, 0)), HasSubstr("offset -8"));
  EXPECT_THAT(refusal(stream_of({.num_bytes = kMost}, 0)), HasSubstr("got 0 bytes of a message"));
}

TEST(MessageReader, RefusesMemoryThatAnObjectDoesNotHave) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(refusal(stream_of({.offset_bytes = 16, .num_bytes = 0}, 0)), "nothing");
  EXPECT_THAT(refusal(stream_of({.offset_bytes = 13, .num_bytes = 4}, 4)),
              HasSubstr("outside of object 0: got 4 bytes from 13, expected at most 16"));
  EXPECT_THAT(refusal(stream_of({.offset_bytes = kMost}, 0)), HasSubstr("outside of object"));
  EXPECT_THAT(
      refusal(stream_of({.kind = MessageKind::kGet, .offset_bytes = 1, .num_bytes = kMost}, 0)),
      HasSubstr("outside of object"));
}

}  // namespace
}  // namespace superstep::bsp::internal
