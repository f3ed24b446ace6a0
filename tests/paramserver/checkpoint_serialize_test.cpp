#include "paramserver/checkpoint_serialize.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"
#include "tests/paramserver/checkpoint_fixture.h"

namespace superstep::paramserver {
namespace {

using ::superstep::testing::complete_manifest;
using ::testing::HasSubstr;

constexpr std::size_t kPayload = 40;

// Empty when the bytes decode; else the message of the DataError.
std::string problem_of(std::span<const std::byte> bytes) {
  try {
    decode_manifest(bytes, "MANIFEST");
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
    EXPECT_EQ(error.path(), "MANIFEST");
    return error.what();
  }
  return "";
}

// Length and hash of a frame whose payload was changed by someone who knows the format.
void reseal(std::vector<std::byte>& frame) {
  const std::uint64_t length = frame.size() - kPayload;
  std::memcpy(frame.data() + 16, &length, sizeof length);
  std::vector<std::byte> hashed(frame.begin(), frame.begin() + 24);
  hashed.insert(hashed.end(), frame.begin() + kPayload, frame.end());
  const auto hash = to_bytes(hash_bytes(hashed));
  std::copy(hash.begin(), hash.end(), frame.begin() + 24);
}

// What decode says about a manifest that breaks a rule: encode does not check.
std::string problem_after(const std::function<void(Manifest&)>& change) {
  Manifest manifest = complete_manifest(3);
  change(manifest);
  manifest.state_hash = state_hash(manifest);
  return problem_of(encode_manifest(manifest));
}

TEST(ManifestFrame, BringsEveryFieldBack) {
  const Manifest manifest = complete_manifest(3);
  EXPECT_EQ(decode_manifest(encode_manifest(manifest), "MANIFEST"), manifest);
}

TEST(ManifestFrame, BeginsWithMagicVersionLengthAndHash) {
  const std::vector<std::byte> frame = encode_manifest(complete_manifest(3));
  const std::string expected("SSCKPT\0\1\1\0\0\0\0\0\0\0", 16);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(frame.data()), 16), expected);
  std::vector<std::byte> resealed = frame;
  reseal(resealed);
  EXPECT_EQ(resealed, frame);
}

TEST(ManifestFrame, HasTheSameBytesForEqualManifests) {
  EXPECT_EQ(encode_manifest(complete_manifest(3)), encode_manifest(complete_manifest(3)));
}

TEST(ManifestFrame, DetectsEveryTruncation) {
  const std::vector<std::byte> frame = encode_manifest(complete_manifest(3));
  for (std::size_t size = 0; size < frame.size(); ++size) {
    ASSERT_NE(problem_of(std::span(frame).first(size)), "") << size;
  }
}

TEST(ManifestFrame, DetectsEverySingleBitFlip) {
  std::vector<std::byte> frame = encode_manifest(complete_manifest(3));
  for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
    frame[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_NE(problem_of(frame), "") << "bit " << bit;
    frame[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  EXPECT_EQ(problem_of(frame), "");
}

TEST(ManifestFrame, SaysWhatIsWrong) {
  const std::vector<std::byte> frame = encode_manifest(complete_manifest(3));
  std::vector<std::byte> version = frame;
  version[8] = std::byte{2};
  EXPECT_THAT(problem_of(version), HasSubstr("byte 8: unknown version of the format: got 2"));
  std::vector<std::byte> reserved = frame;
  reserved[14] = std::byte{1};
  reseal(reserved);
  EXPECT_THAT(problem_of(reserved), HasSubstr("byte 12: reserved bytes: got 65536, expected 0"));
  std::vector<std::byte> longer = frame;
  longer.push_back(std::byte{0});
  EXPECT_THAT(problem_of(longer), HasSubstr("byte 16: length does not match"));
  std::vector<std::byte> damaged = frame;
  damaged.back() ^= std::byte{1};
  EXPECT_THAT(problem_of(damaged), HasSubstr("file is damaged"));
  EXPECT_THAT(problem_of(std::as_bytes(std::span("hello, this is some text of another program"))),
              HasSubstr("not the manifest of a checkpoint"));
  EXPECT_THAT(problem_of(std::span(frame).first(30)), HasSubstr("file ends early: got 30 bytes"));
}

TEST(ManifestFrame, RefusesWhatFollowsTheArchive) {
  std::vector<std::byte> frame = encode_manifest(complete_manifest(3));
  frame.push_back(std::byte{0});
  reseal(frame);
  EXPECT_THAT(problem_of(frame), HasSubstr("bytes after the end of the archive"));
}

TEST(ManifestFrame, RefusesResealedTruncations) {
  const std::vector<std::byte> whole = encode_manifest(complete_manifest(3));
  for (std::size_t size = kPayload; size < whole.size(); ++size) {
    std::vector<std::byte> frame(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    reseal(frame);
    ASSERT_THAT(problem_of(frame), HasSubstr("invalid manifest")) << size;
  }
}

TEST(ManifestFrame, RefusesHugeCountsBeforeAllocating) {
  std::vector<std::byte> frame = encode_manifest(complete_manifest(3));
  const std::uint64_t huge = ~std::uint64_t{0} / 2;
  std::memcpy(frame.data() + kPayload, &huge, sizeof huge);  // the length of run_id
  reseal(frame);
  EXPECT_THAT(problem_of(frame), HasSubstr("a count of 9223372036854775807 does not fit"));
}

TEST(ManifestFrame, RefusesKeysTwiceAndInAnotherOrder) {
  Manifest manifest = complete_manifest(3);
  manifest.numbers = {{"keyB", 1.0}, {"keyD", 2.0}};
  manifest.state_hash = state_hash(manifest);
  const std::vector<std::byte> whole = encode_manifest(manifest);
  const auto changed = [&](const std::string& from, char to) {
    std::vector<std::byte> frame = whole;
    const auto key = std::as_bytes(std::span(from));
    const auto at = std::search(frame.begin(), frame.end(), key.begin(), key.end());
    EXPECT_NE(at, frame.end());
    at[3] = static_cast<std::byte>(to);
    reseal(frame);
    return problem_of(frame);
  };
  EXPECT_EQ(changed("keyB", 'A'), "");
  EXPECT_THAT(changed("keyD", 'B'), HasSubstr("keys out of order: got \"keyB\" after \"keyB\""));
  EXPECT_THAT(changed("keyB", 'E'), HasSubstr("keys out of order: got \"keyD\" after \"keyE\""));
}

// Whoever can write the file can also compute its hash, so what is behind it must hold by itself.
TEST(ManifestFrame, SurvivesResealedGarbage) {
  const std::vector<std::byte> whole = encode_manifest(complete_manifest(3));
  PhiloxStream random(23);
  int refused = 0;
  constexpr int kTrials = 5000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<std::byte> frame = whole;
    for (int change = 0; change < 1 + trial % 4; ++change) {
      frame[kPayload + random.below(frame.size() - kPayload)] =
          static_cast<std::byte>(random.bits32() & 0xFF);
    }
    reseal(frame);
    refused += problem_of(frame).empty() ? 0 : 1;
  }
  // Changes in free text pass; block hashes, counts and the position do not.
  EXPECT_GT(refused, kTrials / 4);
}

TEST(ManifestFrame, RefusesManifestsThatBreakARule) {
  const auto array = [](auto change) {
    return problem_after([&](Manifest& manifest) { change(manifest.arrays[1]); });
  };
  EXPECT_EQ(problem_after([](Manifest&) {}), "");
  EXPECT_THAT(array([](auto& a) { a.name = "../evil"; }), HasSubstr("array name"));
  EXPECT_THAT(array([](auto& a) { a.name = ""; }), HasSubstr("array name"));
  EXPECT_THAT(array([](auto& a) { a.name = "parameters"; }), HasSubstr("two arrays of one name"));
  EXPECT_THAT(array([](auto& a) { a.num_elements = -1; }), HasSubstr("elements of array"));
  EXPECT_THAT(array([](auto& a) { a.num_elements = std::int64_t{1} << 62; }),
              HasSubstr("elements of array"));
  EXPECT_THAT(array([](auto& a) { a.blocks.pop_back(); }), HasSubstr("number of blocks"));
  EXPECT_THAT(problem_after([](Manifest& m) { m.file_elements = 0; }),
              HasSubstr("elements per file"));
  EXPECT_THAT(problem_after([](Manifest& m) { m.file_elements = 4097; }),
              HasSubstr("elements per file"));
  EXPECT_THAT(problem_after([](Manifest& m) { m.position.epoch = -1; }), HasSubstr("position"));
  EXPECT_THAT(problem_after([](Manifest& m) { m.optimizer.momentum = 2.0; }),
              HasSubstr("momentum: got 2"));
  EXPECT_THAT(problem_after([](Manifest& m) { m.optimizer.kind = static_cast<OptimizerKind>(9); }),
              HasSubstr("unknown enumerator: got 9"));
  EXPECT_THAT(problem_after([](Manifest& m) { m.schedule.boundaries = {}; }),
              HasSubstr("boundaries: got none"));
}

TEST(ManifestFrame, RefusesAStateHashThatIsNotTheStates) {
  Manifest manifest = complete_manifest(3);
  manifest.state_hash.low ^= 1;
  EXPECT_THAT(problem_of(encode_manifest(manifest)), HasSubstr("state_hash"));
}

TEST(StateHash, CoversNamesSizesBlocksAndPositionInTheStatedOrder) {
  const Manifest manifest = complete_manifest(3);
  std::string bytes;
  const auto append = [&](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  const auto number = [&](std::uint64_t value) { append(&value, sizeof value); };
  number(2);
  for (const Manifest::Array& array : manifest.arrays) {
    number(array.name.size());
    bytes += array.name;
    number(5 * 4096);
    for (const Hash128& block : array.blocks) {
      number(block.low);
      number(block.high);
    }
  }
  for (const std::uint64_t value : {3, 1, 3, 7}) {
    number(value);
  }
  EXPECT_EQ(state_hash(manifest), hash_text(bytes));
}

TEST(StateHash, DependsOnTheStateOnly) {
  Manifest manifest = complete_manifest(3);
  const Hash128 hash = state_hash(manifest);
  manifest.file_elements *= 2;
  manifest.run_id = "another";
  manifest.numbers["loss"] = 3.0;
  EXPECT_EQ(state_hash(manifest), hash);
  manifest.position.step_in_epoch += 1;
  EXPECT_NE(state_hash(manifest), hash);
  EXPECT_NE(state_hash(complete_manifest(3, 1)), hash);
}

}  // namespace
}  // namespace superstep::paramserver
