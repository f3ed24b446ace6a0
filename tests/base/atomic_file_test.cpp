#include "base/atomic_file.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/error.h"
#include "tests/base/temporary_directory.h"

namespace superstep {
namespace {

namespace fs = std::filesystem;
using superstep::testing::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename().native());
  }
  return names;
}

// Lowers the limit of a file's size, so that writing fails in the middle as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    previous_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &previous_);
    const rlimit limit = {bytes, previous_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &previous_);
    std::signal(SIGXFSZ, previous_handler_);
  }

 private:
  rlimit previous_{};
  void (*previous_handler_)(int) = nullptr;
};

TEST(WriteFileAtomically, WritesAndReplaces) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "f", "first");
  EXPECT_EQ(read_text_file(directory / "f", 100), "first");
  write_file_atomically(directory / "f", "second");
  EXPECT_EQ(read_text_file(directory / "f", 100), "second");
  EXPECT_THAT(names_in(directory.path()), ElementsAre("f"));
}

TEST(WriteFileAtomically, EmptyFilesAreFiles) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "f", "");
  EXPECT_EQ(read_text_file(directory / "f", 0), "");
}

TEST(WriteFileAtomically, RefusesToReplaceWhenAsked) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "f", "first", IfExists::kRefuse);
  try {
    write_file_atomically(directory / "f", "second", IfExists::kRefuse);
    FAIL() << "must throw";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("f: cannot move the file into place: File exists"));
    EXPECT_EQ(error.exit_code(), ExitCode::kFailure);
  }
  EXPECT_EQ(read_text_file(directory / "f", 100), "first");
  EXPECT_THAT(names_in(directory.path()), ElementsAre("f"));
}

TEST(WriteFileAtomically, FollowsTheUmaskLikeAnyFile) {
  const TemporaryDirectory directory;
  const mode_t previous = ::umask(027);
  write_file_atomically(directory / "f", "x");
  ::umask(previous);
  EXPECT_EQ(fs::status(directory / "f").permissions(), static_cast<fs::perms>(0640));
}

TEST(WriteFileAtomically, NameWithoutDirectoryIsInTheCurrentOne) {
  const TemporaryDirectory directory;
  const fs::path before = fs::current_path();
  fs::current_path(directory.path());
  write_file_atomically("f", "x");
  fs::current_path(before);
  EXPECT_EQ(read_text_file(directory / "f", 1), "x");
}

TEST(WriteFileAtomically, LongNamesFit) {
  const TemporaryDirectory directory;
  const std::string name(255, 'n');
  write_file_atomically(directory / name, "x");
  EXPECT_THAT(names_in(directory.path()), ElementsAre(name));
}

TEST(AtomicFile, StreamsPartsAndCountsThem) {
  const TemporaryDirectory directory;
  AtomicFile file(directory / "f", IfExists::kReplace, 10);
  file.write("12345");
  EXPECT_EQ(file.position(), 5);
  file.write("");
  file.write("678");
  EXPECT_EQ(file.position(), 8);
  file.commit();
  EXPECT_EQ(read_text_file(directory / "f", 100), "12345678");
}

TEST(AtomicFile, NothingIsVisibleBeforeCommit) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "f", "old");
  AtomicFile file(directory / "f");
  file.write("new");
  EXPECT_EQ(read_text_file(directory / "f", 100), "old");
  const std::vector<std::string> names = names_in(directory.path());
  EXPECT_EQ(std::count_if(names.begin(), names.end(), is_temporary_name), 1);
  file.commit();
  EXPECT_EQ(read_text_file(directory / "f", 100), "new");
  EXPECT_THAT(names_in(directory.path()), ElementsAre("f"));
}

TEST(AtomicFile, LeavesNothingWhenAbandoned) {
  const TemporaryDirectory directory;
  {
    AtomicFile file(directory / "f");
    file.write("half");
    AtomicFile moved = std::move(file);
    moved.write("way");
  }
  EXPECT_THAT(names_in(directory.path()), IsEmpty());
}

TEST(AtomicFile, TwoWritersOfOneTargetDoNotMeet) {
  const TemporaryDirectory directory;
  AtomicFile one(directory / "f");
  AtomicFile other(directory / "f");
  one.write("one");
  other.write("other");
  one.commit();
  other.commit();
  EXPECT_EQ(read_text_file(directory / "f", 100), "other");
}

TEST(AtomicFile, FailedWriteNamesTheByteAndKeepsTheOldFile) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "f", "old");
  {
    const FileSizeLimit limit(1'000);
    AtomicFile file(directory / "f");
    file.write(std::string(600, 'x'));
    try {
      file.write(std::string(600, 'y'));
      ADD_FAILURE() << "must throw";
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("cannot write: File too large"));
      EXPECT_EQ(error.offset(), 1'000);  // the part that fitted was written
    }
  }
  EXPECT_EQ(read_text_file(directory / "f", 100), "old");
  EXPECT_THAT(names_in(directory.path()), ElementsAre("f"));
}

TEST(AtomicFile, ImpossibleReservationIsFoundBeforeWriting) {
  const TemporaryDirectory directory;
  // More than any file system can hold.
  EXPECT_THROW(AtomicFile(directory / "f", IfExists::kReplace, INT64_MAX), DataError);
  EXPECT_THAT(names_in(directory.path()), IsEmpty());
}

TEST(AtomicFile, MissingDirectoryIsNamed) {
  const TemporaryDirectory directory;
  try {
    const AtomicFile file(directory / "missing" / "f");
    FAIL() << "must throw";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("missing/f: cannot create a file beside it: No such file or directory"));
  }
}

TEST(AtomicFile, TargetThatIsADirectoryIsRefused) {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "d");
  EXPECT_THROW(write_file_atomically(directory / "d", "x"), DataError);
  EXPECT_THROW(AtomicFile(directory.path() / ""), DataError);
  EXPECT_THAT(names_in(directory.path()), ElementsAre("d"));
}

TEST(AtomicFile, UseAfterCommitIsABug) {
  const TemporaryDirectory directory;
  AtomicFile file(directory / "f");
  file.commit();
  EXPECT_THROW(file.write("x"), CheckFailure);
  EXPECT_THROW(file.commit(), CheckFailure);
}

TEST(TemporaryName, IsRecognised) {
  EXPECT_TRUE(is_temporary_name(".tmp-0123456789abcdef-summary.json"));
  EXPECT_FALSE(is_temporary_name("summary.json"));
  EXPECT_FALSE(is_temporary_name(""));
}

}  // namespace
}  // namespace superstep
