// Writing checkpoints together: the same bytes from every number of ranks, the same error on every
// rank.

#include <csignal>
#include <optional>

#include <gmock/gmock.h>
#include <sys/resource.h>

#include "base/error.h"
#include "paramserver/checkpoint.h"
#include "tests/paramserver/checkpoint_fixture.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"

namespace superstep::paramserver {
namespace {

namespace fs = std::filesystem;
using ::superstep::testing::error_text;
using ::superstep::testing::expected_files;
using ::superstep::testing::files_in;
using ::superstep::testing::RankState;
using ::superstep::testing::read_bytes;
using ::superstep::testing::small_layout;
using ::superstep::testing::small_manifest;
using ::superstep::testing::whole_array;
using ::superstep::testing::WorldDirectory;
using ::superstep::testing::write_bytes;
using ::superstep::testing::write_small;
using ::testing::HasSubstr;

// Collective: the message of what `body` threw on this rank, the same on all ranks.
template <typename ErrorType, typename Body>
std::string error_of_all(bsp::World& world, Body body) {
  std::string message = error_text<ErrorType>(body);
  const std::vector<std::string> all = world.allgather_string(message);
  for (const std::string& other : all) {
    EXPECT_EQ(other, message);
  }
  return message;
}

SUPERSTEP_WORLD_TEST_ON_NODES(CheckpointWorld, WritesTheBytesOfASerialWriter) {
  const WorldDirectory directory(world);
  const fs::path path = write_small(world, directory.path() / "checkpoints", 12);
  EXPECT_EQ(path, directory.path() / "checkpoints" / "step-00000012");
  EXPECT_EQ(files_in(path), expected_files(12));
  EXPECT_FALSE(fs::exists(directory.path() / "checkpoints" / "step-00000012.tmp"));
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, ReadsOnAnyRanksWhatAnyRanksWrote) {
  const WorldDirectory directory(world);
  for (int writers = 1; writers <= world.size(); ++writers) {
    {
      bsp::World group = world.split(world.rank() < writers ? 0 : 1, world.rank());
      if (world.rank() < writers) {
        write_small(group, directory.path(), writers);
      }
    }
    world.sync();
    const auto newest = newest_verified_checkpoint(directory.path(), nullptr);
    EXPECT_TRUE(newest.has_value());
    const CheckpointReader reader(newest.value());
    EXPECT_EQ(reader.manifest().position.superstep, writers);
    for (const char* name : {"parameters", "momentum"}) {
      const ElementRange mine = small_layout().shard(world.rank(), world.size());
      const std::vector<float> whole = whole_array(name);
      std::vector<float> values(static_cast<std::size_t>(mine.length()));
      reader.read(name, mine, values);
      EXPECT_TRUE(std::equal(values.begin(), values.end(), whole.begin() + mine.begin)) << name;
    }
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, TakesPartsInAnyOrderOfRanks) {
  const WorldDirectory directory(world);
  const RankState state(world.size() - 1 - world.rank(), world.size());
  const fs::path path =
      write_checkpoint(world, directory.path(), small_manifest(3), state.parts()).directory;
  EXPECT_EQ(files_in(path), expected_files(3));
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, TakesEverythingFromOneRank) {
  const WorldDirectory directory(world);
  const int holder = world.size() - 1;
  const RankState all(0, 1);
  std::vector<ArrayPart> parts = all.parts();
  if (world.rank() != holder) {
    for (ArrayPart& part : parts) {
      part.range = {};
      part.values = {};
    }
  }
  const fs::path path =
      write_checkpoint(world, directory.path(), small_manifest(3), parts).directory;
  EXPECT_EQ(files_in(path), expected_files(3));
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, LeavesAnExistingCheckpointOfTheSameStateAlone) {
  const WorldDirectory directory(world);
  const fs::path path = write_small(world, directory.path(), 3);
  const fs::file_time_type written = fs::last_write_time(path / "MANIFEST");
  if (world.rank() == 0) {
    write_bytes(path / "note", "left alone");
  }
  EXPECT_EQ(write_small(world, directory.path(), 3), path);
  EXPECT_EQ(fs::last_write_time(path / "MANIFEST"), written);
  EXPECT_TRUE(fs::exists(path / "note"));
  world.sync();
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, NeverOverwritesAnotherState) {
  const WorldDirectory directory(world);
  const fs::path path = write_small(world, directory.path(), 3);
  const std::string message =
      error_of_all<DataError>(world, [&] { write_small(world, directory.path(), 3, 1); });
  EXPECT_THAT(message, HasSubstr("a valid checkpoint of another state is there"));
  EXPECT_EQ(files_in(path), expected_files(3));
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, MovesADamagedCheckpointAside) {
  const WorldDirectory directory(world);
  for (const char* aside : {"step-00000003.damaged", "step-00000003.damaged-2"}) {
    const fs::path path = write_small(world, directory.path(), 3);
    if (world.rank() == 0) {
      std::string bytes = read_bytes(path / "momentum-00000.bin");
      bytes[7] ^= 1;
      write_bytes(path / "momentum-00000.bin", bytes);
    }
    world.sync();
    EXPECT_EQ(write_small(world, directory.path(), 3), path);
    EXPECT_EQ(files_in(path), expected_files(3));
    EXPECT_TRUE(fs::exists(directory.path() / aside / "MANIFEST"));
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, RemovesWhatAnEarlierAttemptLeft) {
  const WorldDirectory directory(world);
  const fs::path leftover = directory.path() / "step-00000003.tmp";
  if (world.rank() == 0) {
    fs::create_directories(leftover / "deep");
    write_bytes(leftover / "parameters-00000.bin", std::string(1 << 20, 'x'));
    write_bytes(leftover / "MANIFEST", "half");
  }
  world.sync();
  const fs::path path = write_small(world, directory.path(), 3);
  EXPECT_EQ(files_in(path), expected_files(3));
  EXPECT_FALSE(fs::exists(leftover));
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, ThrowsTheSameErrorWhereTheDirectoryCannotBe) {
  const WorldDirectory directory(world);
  if (world.rank() == 0) {
    write_bytes(directory.path() / "file", "");
  }
  world.sync();
  const std::string message = error_of_all<DataError>(
      world, [&] { write_small(world, directory.path() / "file" / "checkpoints", 3); });
  EXPECT_THAT(message, HasSubstr("not written: rank 0:"));
  EXPECT_THAT(message, HasSubstr("Not a directory"));
}

// Limits the size of files that this process writes; the largest array file has 32 KiB.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limited{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    (void)std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

// Only the last process is limited: with one process the reservation by rank 0 fails, with several
// the writing of another rank.
SUPERSTEP_WORLD_TEST(CheckpointWorld, ThrowsTheSameErrorWhenOneProcessCannotWrite) {
  const WorldDirectory directory(world);
  const fs::path earlier = write_small(world, directory.path(), 2);
  std::string message;
  {
    std::optional<FileSizeLimit> limit;
    if (world.process() == world.num_processes() - 1 && world.lane() == 0) {
      limit.emplace(16 * 1024);
    }
    world.sync();
    message = error_of_all<DataError>(world, [&] { write_small(world, directory.path(), 3); });
    world.sync();
  }
  world.sync();
  EXPECT_THAT(message, HasSubstr("File too large"));
  EXPECT_THAT(message, HasSubstr("not written: rank "));
  EXPECT_EQ(message.find("[write_checkpoint]"), message.rfind("[write_checkpoint]")) << message;
  EXPECT_FALSE(fs::exists(directory.path() / "step-00000003.tmp"));
  EXPECT_FALSE(fs::exists(directory.path() / "step-00000003"));
  EXPECT_EQ(files_in(earlier), expected_files(2));
  EXPECT_EQ(newest_verified_checkpoint(directory.path(), nullptr), earlier);
  world.sync();
  const fs::path path = write_small(world, directory.path(), 3);
  EXPECT_EQ(files_in(path), expected_files(3));
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, RefusesRangesThatDoNotCoverTheArrayOnce) {
  const WorldDirectory directory(world);
  const RankState all(0, 1);
  for (const bool overlap : {false, true}) {
    std::vector<ArrayPart> parts = all.parts();
    if (world.rank() == 0 && !overlap) {
      parts[1].range.begin = kBlockElements;
      parts[1].values = parts[1].values.subspan(kBlockElements);
    } else if (world.rank() > (overlap ? 1 : 0)) {
      for (ArrayPart& part : parts) {
        part.range = {};
        part.values = {};
      }
    }
    if (overlap && world.size() == 1) {
      continue;  // overlap takes two
    }
    const std::string message = error_of_all<InvalidArgument>(
        world, [&] { write_checkpoint(world, directory.path(), small_manifest(3), parts); });
    EXPECT_THAT(message, HasSubstr("to cover 20480 elements exactly once"));
  }
  EXPECT_TRUE(list_checkpoints(directory.path()).empty());
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, RefusesRanksThatBringDifferentThings) {
  const WorldDirectory directory(world);
  const RankState state(world.rank(), world.size());
  if (world.size() > 1) {
    const bool differs = world.rank() == world.size() - 1;
    std::vector<ArrayPart> parts = state.parts();
    if (differs) {
      parts.pop_back();
    }
    EXPECT_THAT(
        error_of_all<CommunicationError>(
            world, [&] { write_checkpoint(world, directory.path(), small_manifest(3), parts); }),
        HasSubstr("arrays of the checkpoint"));
    EXPECT_THAT(error_of_all<CommunicationError>(world,
                                                 [&] {
                                                   write_checkpoint(world, directory.path(),
                                                                    small_manifest(differs ? 4 : 3),
                                                                    state.parts());
                                                 }),
                HasSubstr("superstep of the checkpoint"));
  }
  EXPECT_TRUE(list_checkpoints(directory.path()).empty());
}

SUPERSTEP_WORLD_TEST(CheckpointWorld, RefusesPartsThatAreNoBlocks) {
  const WorldDirectory directory(world);
  const RankState state(world.rank(), world.size());
  const auto refused = [&](auto change) {
    std::vector<ArrayPart> parts = state.parts();
    change(parts[0]);
    EXPECT_THROW(write_checkpoint(world, directory.path(), small_manifest(3), parts),
                 InvalidArgument);
  };
  refused([](ArrayPart& part) { part.name = "a/b"; });
  refused([](ArrayPart& part) { part.num_elements = 0; });
  refused([](ArrayPart& part) { part.range = {100, 200}; });
  refused([](ArrayPart& part) { part.range = {0, 6 * kBlockElements}; });
  refused([](ArrayPart& part) { part.range.end = part.range.begin - 1; });
}

}  // namespace
}  // namespace superstep::paramserver
