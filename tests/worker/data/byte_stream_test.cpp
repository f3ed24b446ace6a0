#include "worker/data/byte_stream.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/error_text.h"
#include "tests/worker/data/idx_files.h"

namespace superstep::worker {
namespace {

using superstep::testing::error_text;
using superstep::testing::gzip;
using superstep::testing::TemporaryDirectory;
using superstep::testing::write_bytes;
using ::testing::HasSubstr;

std::string read_all(ByteStream& stream, std::size_t piece) {
  std::string content;
  std::vector<std::byte> buffer(piece);
  while (const std::int64_t got = stream.read(buffer)) {
    content.append(reinterpret_cast<const char*>(buffer.data()), static_cast<std::size_t>(got));
  }
  return content;
}

// Bytes that do not compress, so that a gzip file of them spans many input buffers.
std::string random_bytes(std::size_t count) {
  PhiloxStream stream(7, stream_id("bytes of a test"));
  std::string bytes(count, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(stream.bits32() & 0xFF);
  }
  return bytes;
}

std::string error_of_reading(const std::filesystem::path& path) {
  return error_text<DataError>([&] {
    ByteStream stream(path);
    read_all(stream, 1000);
  });
}

TEST(ByteStream, ReadsTheSameContentPlainAndGzipWhateverThePieces) {
  const TemporaryDirectory directory;
  const std::string content = random_bytes(200'003);
  const auto plain = write_bytes(directory / "plain", content);
  const auto packed = write_bytes(directory / "packed", gzip(content));
  for (const std::size_t piece : {std::size_t{1'000}, std::size_t{65'536}, std::size_t{300'000}}) {
    ByteStream plain_stream(plain);
    EXPECT_FALSE(plain_stream.is_gzip());
    EXPECT_EQ(read_all(plain_stream, piece), content);
    EXPECT_TRUE(plain_stream.at_end());
    ByteStream packed_stream(packed);
    EXPECT_TRUE(packed_stream.is_gzip());
    EXPECT_EQ(read_all(packed_stream, piece), content);
    EXPECT_TRUE(packed_stream.at_end());
    EXPECT_EQ(packed_stream.offset(), 200'003);
  }
}

TEST(ByteStream, LookingForTheEndLosesNoByte) {
  const TemporaryDirectory directory;
  for (const std::string& bytes : {std::string("abc"), gzip("abc")}) {
    ByteStream stream(write_bytes(directory / "f", bytes));
    std::vector<std::byte> one(1);
    std::string content;
    while (!stream.at_end()) {
      ASSERT_FALSE(stream.at_end());
      ASSERT_EQ(stream.offset(), static_cast<std::int64_t>(content.size()));
      ASSERT_EQ(stream.read(one), 1);
      content += static_cast<char>(one[0]);
    }
    EXPECT_EQ(content, "abc");
  }
}

TEST(ByteStream, JoinsGzipMembers) {
  const TemporaryDirectory directory;
  ByteStream stream(write_bytes(directory / "f", gzip("first ") + gzip("") + gzip("second")));
  EXPECT_EQ(read_all(stream, 4), "first second");
}

TEST(ByteStream, ReadsEmptyFiles) {
  const TemporaryDirectory directory;
  for (const std::string& bytes : {std::string(), gzip("")}) {
    ByteStream stream(write_bytes(directory / "f", bytes));
    EXPECT_TRUE(stream.at_end());
  }
}

TEST(ByteStream, NamesTruncatedGzipAtEveryLength) {
  const TemporaryDirectory directory;
  const std::string packed = gzip(random_bytes(500));
  for (std::size_t length = 2; length < packed.size(); ++length) {
    const auto path = write_bytes(directory / "f", packed.substr(0, length));
    ASSERT_EQ(error_of_reading(path), "[ByteStream] " + path.string() + ", byte " +
                                          std::to_string(length) +
                                          ": gzip stream ends early: the file is truncated");
  }
}

TEST(ByteStream, NamesGarbageAfterTheGzipStream) {
  const TemporaryDirectory directory;
  const std::string packed = gzip("content");
  const auto path = write_bytes(directory / "f", packed + "xyz");
  EXPECT_EQ(error_of_reading(path), "[ByteStream] " + path.string() + ", byte " +
                                        std::to_string(packed.size()) +
                                        ": garbage after the gzip stream: got 3 more bytes, "
                                        "expected the end of the file");
}

TEST(ByteStream, NamesGarbageThatStartsAtABufferBorder) {
  const TemporaryDirectory directory;
  // Pads the content until the packed size is exactly one input buffer.
  std::string content = random_bytes(65'000);
  while (gzip(content).size() < 65'536) {
    content += random_bytes(65'536 - gzip(content).size());
  }
  ASSERT_EQ(gzip(content).size(), 65'536U);
  EXPECT_THAT(error_of_reading(write_bytes(directory / "f", gzip(content) + "x")),
              HasSubstr("byte 65536: garbage after the gzip stream: got 1 more bytes"));
  EXPECT_EQ(error_of_reading(write_bytes(directory / "g", gzip(content))), "");
}

TEST(ByteStream, EveryFlippedBitOfAGzipFileIsNoticedOrHarmless) {
  const TemporaryDirectory directory;
  const std::string content = "a content that compresses a little, a little, a little";
  const std::string packed = gzip(content);
  int noticed = 0;
  for (std::size_t bit = 0; bit < packed.size() * 8; ++bit) {
    std::string damaged = packed;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    const auto path = write_bytes(directory / "f", damaged);
    try {
      ByteStream stream(path);
      const std::string read = read_all(stream, 7);
      // Time stamp, flags and operating system of the header do not touch the content; a damaged
      // magic makes it a plain file.
      EXPECT_TRUE(read == content || !stream.is_gzip()) << "bit " << bit;
    } catch (const DataError&) {
      ++noticed;
    }
  }
  EXPECT_GT(noticed, static_cast<int>(packed.size() - 18) * 8);
}

TEST(ByteStream, NamesWhatCannotBeOpened) {
  const TemporaryDirectory directory;
  EXPECT_EQ(error_of_reading(directory / "missing"),
            "[ByteStream] " + (directory / "missing").string() +
                ": cannot open: No such file or directory");
  EXPECT_THAT(error_of_reading(directory.path()), HasSubstr("got a directory, expected a file"));
  EXPECT_THAT(error_of_reading("/dev/null"), HasSubstr("expected a regular file"));
}

TEST(ByteStream, BoundsTheContentByWhatTheFileCanHold) {
  const TemporaryDirectory directory;
  const std::string zeros(1'000'000, '\0');
  const ByteStream packed(write_bytes(directory / "f", gzip(zeros)));
  EXPECT_LT(packed.file_bytes(), 1'100);
  EXPECT_GE(packed.max_content_bytes(), 1'000'000);
  const ByteStream plain(write_bytes(directory / "g", "abc"));
  EXPECT_EQ(plain.max_content_bytes(), 3);
}

}  // namespace
}  // namespace superstep::worker
