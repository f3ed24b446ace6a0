#include "base/file.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/error_text.h"

namespace superstep {
namespace {

namespace fs = std::filesystem;
using superstep::testing::error_text;
using superstep::testing::TemporaryDirectory;
using ::testing::HasSubstr;

void write_plainly(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST(ReadFile, ReturnsEveryByte) {
  const TemporaryDirectory directory;
  const std::string text("a\0b\n\xff", 5);
  write_plainly(directory / "f", text);
  EXPECT_EQ(read_text_file(directory / "f", 5), text);
  EXPECT_EQ(read_file(directory / "f", 5).size(), 5U);
  write_plainly(directory / "empty", "");
  EXPECT_EQ(read_text_file(directory / "empty", 0), "");
}

TEST(ReadFile, RefusesMoreThanTheLimit) {
  const TemporaryDirectory directory;
  write_plainly(directory / "f", "12345");
  EXPECT_THAT(error_text<DataError>([&] { read_text_file(directory / "f", 4); }),
              HasSubstr("f: file too large: got 5 bytes, expected at most 4"));
}

TEST(ReadFile, NamesPathAndReason) {
  const TemporaryDirectory directory;
  const std::string missing = (directory / "missing").native();
  EXPECT_EQ(error_text<DataError>([&] { read_file(missing, 10); }),
            "[read_file] " + missing + ": cannot open: No such file or directory");
  EXPECT_THAT(error_text<DataError>([&] { read_file(directory.path(), 10); }),
              HasSubstr("not a regular file"));
}

TEST(ReadFile, MissingFileIsBadData) {
  try {
    read_file("/nonexistent/file", 1);
    FAIL() << "must throw";
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadData);
    EXPECT_EQ(error.path(), "/nonexistent/file");
  }
}

TEST(RenameDirectory, MovesItWhole) {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "a.tmp");
  write_plainly(directory / "a.tmp" / "f", "1");
  rename_directory(directory / "a.tmp", directory / "a");
  EXPECT_FALSE(fs::exists(directory / "a.tmp"));
  EXPECT_EQ(read_text_file(directory / "a" / "f", 1), "1");
}

TEST(RenameDirectory, NeverReplacesADirectoryWithContent) {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "new");
  fs::create_directory(directory / "old");
  write_plainly(directory / "old" / "f", "precious");
  EXPECT_THAT(
      error_text<DataError>([&] { rename_directory(directory / "new", directory / "old"); }),
      HasSubstr("Directory not empty"));
  EXPECT_EQ(read_text_file(directory / "old" / "f", 100), "precious");
  EXPECT_TRUE(fs::exists(directory / "new"));
}

TEST(RenameDirectory, RefusesFilesAndMissingDirectories) {
  const TemporaryDirectory directory;
  write_plainly(directory / "file", "1");
  EXPECT_THAT(error_text<DataError>([&] { rename_directory(directory / "file", directory / "x"); }),
              HasSubstr("Not a directory"));
  EXPECT_TRUE(fs::exists(directory / "file"));
  EXPECT_THAT(error_text<DataError>([&] { rename_directory(directory / "none", directory / "x"); }),
              HasSubstr("none: cannot find the directory: No such file or directory"));
}

TEST(MakeDirectories, MakesWhatIsMissing) {
  const TemporaryDirectory directory;
  make_directories(directory / "a" / "b" / "c");
  EXPECT_TRUE(fs::is_directory(directory / "a" / "b" / "c"));
  EXPECT_NO_THROW(make_directories(directory / "a" / "b"));
  write_plainly(directory / "file", "1");
  EXPECT_THAT(error_text<DataError>([&] { make_directories(directory / "file" / "x"); }),
              HasSubstr("cannot create the directory"));
}

// As root nothing is unreadable, and both are synced.
TEST(FsyncName, LeavesOutADirectoryThatCannotBeRead) {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "box");
  fs::permissions(directory / "box", fs::perms::owner_write | fs::perms::owner_exec);
  EXPECT_NO_THROW(make_directories(directory / "box" / "x"));
  EXPECT_NO_THROW(fsync_name(directory / "box" / "x/"));
  EXPECT_TRUE(fs::is_directory(directory / "box" / "x"));
  EXPECT_THAT(error_text<DataError>([&] { fsync_name(directory / "none" / "x"); }),
              HasSubstr("cannot open the directory"));
  fs::permissions(directory / "box", fs::perms::owner_all);
}

TEST(FsyncDirectory, WorksOnDirectoriesOnly) {
  const TemporaryDirectory directory;
  EXPECT_NO_THROW(fsync_directory(directory.path()));
  write_plainly(directory / "file", "1");
  EXPECT_THAT(error_text<DataError>([&] { fsync_directory(directory / "file"); }),
              HasSubstr("Not a directory"));
}

TEST(FreeBytes, AsksTheNearestExistingParent) {
  const TemporaryDirectory directory;
  EXPECT_GT(free_bytes(directory.path()), 0);
  EXPECT_GT(free_bytes(directory / "not" / "yet" / "there"), 0);
  EXPECT_GT(free_bytes("relative-and-missing"), 0);
}

TEST(WriteError, FullDiskNamesNeededAndFreeBytes) {
  const TemporaryDirectory directory;
  const std::string message = error_text<DataError>([&] {
    internal::throw_write_error("AtomicFile::write", directory / "f", "write", ENOSPC, 4'096,
                                1'536);
  });
  EXPECT_THAT(message,
              ::testing::MatchesRegex(
                  "\\[AtomicFile::write\\] .*/f, byte 4096: cannot write: No space left on "
                  "device; needed 1\\.50 KiB; free [0-9.]+ .*B"));
}

TEST(WriteError, OtherReasonsDoNotSpeakOfSpace) {
  const std::string message =
      error_text<DataError>([] { internal::throw_write_error("f", "/p", "sync", EIO); });
  EXPECT_EQ(message, "[f] /p: cannot sync: Input/output error");
}

}  // namespace
}  // namespace superstep
