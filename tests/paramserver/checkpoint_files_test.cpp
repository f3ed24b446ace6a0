#include "paramserver/checkpoint_files.h"

#include <gtest/gtest.h>

namespace superstep::paramserver {
namespace {

TEST(CheckpointFiles, NameStepsWithEightDigitsOrMore) {
  EXPECT_EQ(step_directory_name(420), "step-00000420");
  EXPECT_EQ(step_directory_name(123456789012), "step-123456789012");
  for (const std::int64_t step : {0LL, 1LL, 99999999LL, 100000000LL, 9223372036854775807LL}) {
    EXPECT_EQ(parse_step_directory_name(step_directory_name(step)), step);
  }
}

TEST(CheckpointFiles, TakeNoOtherNameForAStep) {
  for (const char* name : {"", "step-", "step-1", "step-0000042", "step-000000420",
                           "step-00000420.tmp", "step-0000042x", "step--0000042", "step-00000420 ",
                           "Step-00000420", "step-99999999999999999999", "step-00000420.damaged"}) {
    EXPECT_EQ(parse_step_directory_name(name), std::nullopt) << name;
  }
  EXPECT_TRUE(is_unfinished_step_name("step-00000420.tmp"));
  EXPECT_FALSE(is_unfinished_step_name("step-420.tmp"));
  EXPECT_FALSE(is_unfinished_step_name("notes.tmp"));
}

TEST(CheckpointFiles, TakeOnlyPlainArrayNames) {
  for (const char* name : {"parameters", "first_moment", "a1"}) {
    EXPECT_TRUE(is_array_name(name)) << name;
  }
  for (const char* name : {"", "..", "a/b", "A", "a-b", "a.b", "a b"}) {
    EXPECT_FALSE(is_array_name(name)) << name;
  }
  EXPECT_FALSE(is_array_name(std::string(65, 'a')));
}

TEST(CheckpointFiles, CutArraysAtFixedPlaces) {
  constexpr std::int64_t kElements = 3 * 8192 + 100;
  EXPECT_EQ(num_blocks(kElements), 7);
  EXPECT_EQ(num_files(kElements, 8192), 4);
  EXPECT_EQ(num_files(8192, 8192), 1);
  EXPECT_EQ(file_bytes(kElements, 8192, 0), 8192 * 4);
  EXPECT_EQ(file_bytes(kElements, 8192, 3), 400);
}

TEST(CheckpointFiles, FindThePiecesOfEveryRange) {
  constexpr std::int64_t kFile = 8192;
  for (std::int64_t begin = 0; begin <= 5 * kBlockElements; begin += kBlockElements) {
    for (std::int64_t end = begin; end <= 5 * kBlockElements + 7; end += kBlockElements) {
      std::int64_t covered = begin;
      for (const FilePiece& piece : file_pieces({begin, end}, kFile)) {
        EXPECT_EQ(piece.first_element, covered - begin);
        EXPECT_EQ(piece.file_index * kFile + piece.offset / 4, covered);
        EXPECT_GT(piece.num_elements, 0);
        EXPECT_LE(piece.offset / 4 + piece.num_elements, kFile);
        covered += piece.num_elements;
      }
      EXPECT_EQ(covered, end);
    }
  }
}

TEST(CheckpointFiles, CutRangesIntoBlocks) {
  std::vector<std::int64_t> parts;
  for_each_block(2 * kBlockElements + 5, [&](std::int64_t begin, std::int64_t count) {
    parts.insert(parts.end(), {begin, count});
  });
  EXPECT_EQ(parts, (std::vector<std::int64_t>{0, 4096, 4096, 4096, 8192, 5}));
}

}  // namespace
}  // namespace superstep::paramserver
