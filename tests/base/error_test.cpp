#include "base/error.h"

#include <string>

#include <gtest/gtest.h>

namespace superstep {
namespace {

TEST(Error, MessageStartsWithThePlaceInBrackets) {
  EXPECT_STREQ(InvalidArgument("Coarray::put", "offset out of range").what(),
               "[Coarray::put] offset out of range");
  EXPECT_STREQ(CommunicationError("allreduce", "rank 3 is gone").what(),
               "[allreduce] rank 3 is gone");
}

TEST(Error, DataErrorNamesPathAndByte) {
  const DataError error("IdxReader", "/data/train.idx", 16, "labels end early");
  EXPECT_STREQ(error.what(), "[IdxReader] /data/train.idx, byte 16: labels end early");
  EXPECT_EQ(error.path(), "/data/train.idx");
  EXPECT_EQ(error.offset(), 16);
}

TEST(Error, DataErrorWithoutOffsetNamesOnlyThePath) {
  EXPECT_STREQ(DataError("read_file", "a.txt", -1, "cannot open").what(),
               "[read_file] a.txt: cannot open");
  EXPECT_STREQ(DataError("read_file", "a.txt", 0, "bad magic").what(),
               "[read_file] a.txt, byte 0: bad magic");
}

TEST(Error, ExitCodesAreTheDocumentedNumbers) {
  EXPECT_EQ(static_cast<int>(InvalidArgument("f", "x").exit_code()), 2);
  EXPECT_EQ(static_cast<int>(CommunicationError("f", "x").exit_code()), 1);
  EXPECT_EQ(static_cast<int>(CommunicationError("f", "x", ExitCode::kRanksDisagree).exit_code()),
            5);
  EXPECT_EQ(static_cast<int>(CommunicationError("f", "x", ExitCode::kStoppedResumable).exit_code()),
            75);
  EXPECT_EQ(static_cast<int>(DataError("f", "p", -1, "x").exit_code()), 3);
  EXPECT_EQ(static_cast<int>(DataError("f", "p", -1, "x", ExitCode::kBadCheckpoint).exit_code()),
            4);
  EXPECT_EQ(static_cast<int>(DataError("f", "p", -1, "x", ExitCode::kCorruption).exit_code()), 7);
}

TEST(Error, AllThreeAreCaughtAsError) {
  const auto exit_code_of = [](auto&& thrower) {
    try {
      thrower();
    } catch (const Error& error) {
      return error.exit_code();
    }
    return ExitCode::kDone;
  };
  EXPECT_EQ(exit_code_of([] { throw InvalidArgument("f", "x"); }), ExitCode::kUsage);
  EXPECT_EQ(exit_code_of([] { throw CommunicationError("f", "x"); }), ExitCode::kFailure);
  EXPECT_EQ(exit_code_of([] { throw DataError("f", "p", 1, "x"); }), ExitCode::kBadData);
}

}  // namespace
}  // namespace superstep
