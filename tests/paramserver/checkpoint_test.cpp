// Checkpoints on one rank: what the reader refuses, what a set of checkpoints looks like.

#include "paramserver/checkpoint.h"

#include <csignal>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "bsp/environment.h"
#include "paramserver/checkpoint_files.h"
#include "tests/base/temporary_directory.h"
#include "tests/paramserver/checkpoint_fixture.h"

namespace superstep::paramserver {
namespace {

namespace fs = std::filesystem;
using ::superstep::testing::complete_manifest;
using ::superstep::testing::overwrite_byte;
using ::superstep::testing::read_bytes;
using ::superstep::testing::small_layout;
using ::superstep::testing::small_manifest;
using ::superstep::testing::TemporaryDirectory;
using ::superstep::testing::whole_array;
using ::superstep::testing::write_bytes;
using ::superstep::testing::write_small;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

int on_one_rank(const std::function<void(bsp::World&)>& body) {
  bsp::Environment environment;
  return environment.run({}, body);
}

class Checkpoints : public ::testing::Test {
 protected:
  fs::path write(std::int64_t superstep, int version = 0) {
    fs::path path;
    EXPECT_EQ(on_one_rank([&](bsp::World& world) {
                path = write_small(world, root(), superstep, version);
              }),
              0);
    return path;
  }

  // An array of 40 elements in one file of 160 bytes.
  fs::path write_tiny() {
    fs::path path;
    EXPECT_EQ(on_one_rank([&](bsp::World& world) {
                const std::vector<float> values = whole_array("parameters");
                const std::vector<ArrayPart> parts{{.name = "parameters",
                                                    .num_elements = 40,
                                                    .range = {0, 40},
                                                    .values = std::span(values).first(40)}};
                path = write_checkpoint(world, root(), small_manifest(1), parts).directory;
              }),
              0);
    return path;
  }

  const fs::path& root() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
};

// Empty when everything is verified; else the message.
std::string problem_of(const fs::path& path) {
  try {
    CheckpointReader(path).verify();
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
    return error.what();
  }
  return "";
}

TEST_F(Checkpoints, BringBackWhatWasWritten) {
  const CheckpointReader reader(write(12));
  EXPECT_EQ(reader.directory(), root() / "step-00000012");
  EXPECT_EQ(reader.manifest(), complete_manifest(12));
  for (const char* name : {"parameters", "momentum"}) {
    const std::vector<float> expected = whole_array(name);
    std::vector<float> values(expected.size());
    reader.read(name, {0, small_layout().size()}, values);
    EXPECT_EQ(values, expected);
  }
  reader.require_model(small_layout());
  reader.verify();
}

TEST_F(Checkpoints, ReadEveryRangeOfBlocks) {
  const CheckpointReader reader(write(12));
  const std::vector<float> expected = whole_array("momentum");
  for (std::int64_t begin = 0; begin <= 5; ++begin) {
    for (std::int64_t end = begin; end <= 5; ++end) {
      const ElementRange range{begin * kBlockElements, end * kBlockElements};
      std::vector<float> values(static_cast<std::size_t>(range.length()));
      reader.read("momentum", range, values);
      EXPECT_TRUE(std::equal(values.begin(), values.end(), expected.begin() + range.begin));
    }
  }
}

TEST_F(Checkpoints, SuggestTheNearestArray) {
  const CheckpointReader reader(write(12));
  try {
    reader.array("momentun");
    FAIL() << "an unknown array was found";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"momentum\"?"));
  }
}

TEST_F(Checkpoints, DetectEveryTruncationOfAnArrayFile) {
  const fs::path path = write_tiny();
  const fs::path file = path / "parameters-00000.bin";
  const std::string whole = read_bytes(file);
  ASSERT_EQ(whole.size(), 160U);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(file, std::string_view(whole).substr(0, size));
    ASSERT_THAT(problem_of(path),
                HasSubstr("parameters-00000.bin, byte " + std::to_string(size) + ": wrong size"));
  }
  write_bytes(file, whole + '\0');
  EXPECT_THAT(problem_of(path), HasSubstr("wrong size: got 161 bytes, expected 160"));
  write_bytes(file, whole);
  EXPECT_EQ(problem_of(path), "");
}

TEST_F(Checkpoints, DetectEverySingleBitFlipOfAnArrayFile) {
  const fs::path path = write_tiny();
  const fs::path file = path / "parameters-00000.bin";
  const std::string whole = read_bytes(file);
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    overwrite_byte(file, bit / 8, static_cast<char>(whole[bit / 8] ^ (1 << (bit % 8))));
    ASSERT_THAT(problem_of(path), HasSubstr("byte 0: block is damaged")) << bit;
    overwrite_byte(file, bit / 8, whole[bit / 8]);
  }
  EXPECT_EQ(problem_of(path), "");
}

TEST_F(Checkpoints, DetectEveryTruncationOfTheManifestFile) {
  const fs::path path = write_tiny();
  const std::string whole = read_bytes(path / "MANIFEST");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(path / "MANIFEST", std::string_view(whole).substr(0, size));
    ASSERT_THAT(problem_of(path), HasSubstr("MANIFEST")) << size;
  }
}

TEST_F(Checkpoints, NameTheFileAndTheOffsetOfTheFirstDamagedBlock) {
  const fs::path path = write(12);
  const fs::path file = path / "momentum-00001.bin";  // blocks 2 and 3
  std::string bytes = read_bytes(file);
  bytes[4 * kBlockElements + 77] ^= 4;
  write_bytes(file, bytes);
  EXPECT_THAT(problem_of(path), HasSubstr("momentum-00001.bin, byte 16384: block is damaged"));
  const CheckpointReader reader(path);
  std::vector<float> block(kBlockElements);
  reader.read("momentum", {2 * kBlockElements, 3 * kBlockElements}, block);
  EXPECT_THROW(reader.read("momentum", {3 * kBlockElements, 4 * kBlockElements}, block), DataError);
}

TEST_F(Checkpoints, DetectFilesThatWereExchanged) {
  const fs::path path = write(12);
  fs::rename(path / "momentum-00000.bin", path / "x");
  fs::rename(path / "parameters-00000.bin", path / "momentum-00000.bin");
  fs::rename(path / "x", path / "parameters-00000.bin");
  EXPECT_THAT(problem_of(path), HasSubstr("parameters-00000.bin, byte 0: block is damaged"));
}

TEST_F(Checkpoints, RefuseWhatIsNoCheckpoint) {
  EXPECT_THAT(problem_of(root() / "nothing"), HasSubstr("no such checkpoint directory"));
  const fs::path empty = root() / "step-00000001";
  fs::create_directory(empty);
  EXPECT_THAT(problem_of(empty), HasSubstr("MANIFEST: missing"));
  write_bytes(empty / "MANIFEST", "");
  EXPECT_THAT(problem_of(empty), HasSubstr("MANIFEST, byte 0: file ends early"));
  write_bytes(empty / "MANIFEST", std::string(100, 'x'));
  EXPECT_THAT(problem_of(empty), HasSubstr("not the manifest of a checkpoint"));
}

TEST_F(Checkpoints, RefuseMissingAndReplacedFiles) {
  const fs::path path = write(12);
  const fs::path file = path / "parameters-00002.bin";
  const std::string bytes = read_bytes(file);
  fs::remove(file);
  EXPECT_THAT(problem_of(path),
              AllOf(HasSubstr("parameters-00002.bin"), HasSubstr("No such file")));
  fs::create_directory(file);
  EXPECT_THAT(problem_of(path), HasSubstr("not a regular file"));
  fs::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  EXPECT_THAT(problem_of(path), HasSubstr("not a regular file"));
  fs::remove(file);
  write_bytes(path / "elsewhere", bytes);
  fs::create_symlink("elsewhere", file);
  EXPECT_THAT(problem_of(path), HasSubstr("is a symbolic link"));
}

TEST_F(Checkpoints, RefuseALinkInPlaceOfTheManifest) {
  const fs::path path = write(12);
  fs::rename(path / "MANIFEST", path / "elsewhere");
  fs::create_symlink("elsewhere", path / "MANIFEST");
  EXPECT_THAT(problem_of(path), HasSubstr("is a symbolic link"));
}

TEST_F(Checkpoints, RefuseADirectoryThatWasRenamedToAnotherStep) {
  const fs::path path = write(12);
  fs::rename(path, root() / "step-00000013");
  EXPECT_THAT(problem_of(root() / "step-00000013"), HasSubstr("holds superstep 12"));
  fs::rename(root() / "step-00000013", root() / "best");
  EXPECT_EQ(problem_of(root() / "best"), "");
}

TEST_F(Checkpoints, NameTheEntriesThatDifferInAnotherModel) {
  const CheckpointReader reader(write(12));
  ParameterLayout other;
  other.add({.name = "dense1/weight", .shape = {100, 170}});
  other.add({.name = "dense1/bias", .shape = {171}, .decayed = false});
  other.add({.name = "dense2/weight", .shape = {3}});
  other.freeze();
  try {
    reader.require_model(other);
    FAIL() << "another model was taken";
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("entry 2: got dense1/bias (170) trainable undecayed, expected "
                                "dense1/bias (171) trainable undecayed"),
                      HasSubstr("entry 3: got nothing, expected dense2/weight (3)"),
                      Not(HasSubstr("entry 1"))));
  }
}

TEST_F(Checkpoints, AreListedOldestFirstWithoutWhatIsNotValid) {
  const fs::path late = write(100'000'001);
  const fs::path early = write(99'999'999);
  const fs::path damaged = write(5);
  write_bytes(damaged / "MANIFEST", "damaged");
  fs::create_directory(root() / "step-00000006.tmp");
  fs::create_directory(root() / "step-00000007");
  write_bytes(root() / "step-00000008", "a file");
  fs::create_directory_symlink(early, root() / "step-00000009");
  EXPECT_THAT(list_checkpoints(root()), ElementsAre(early, late));
  EXPECT_EQ(newest_checkpoint(root()), late);
}

TEST_F(Checkpoints, AreNoneWhereThereIsNoDirectory) {
  EXPECT_THAT(list_checkpoints(root() / "nothing"), IsEmpty());
  EXPECT_EQ(newest_checkpoint(root()), std::nullopt);
  EXPECT_EQ(newest_verified_checkpoint(root(), nullptr), std::nullopt);
}

TEST_F(Checkpoints, AreExaminedOneByOneWithWhatIsWrong) {
  const fs::path good = write(1);
  const fs::path cut = write(2);
  write_bytes(cut / "MANIFEST", "");
  const std::vector<ExaminedCheckpoint> examined = examine_checkpoints(root());
  ASSERT_EQ(examined.size(), 2U);
  EXPECT_EQ(examined[0].directory, good);
  EXPECT_EQ(examined[0].problem, "");
  EXPECT_EQ(examined[1].directory, cut);
  EXPECT_THAT(examined[1].problem, HasSubstr("MANIFEST"));
}

TEST_F(Checkpoints, FallBackToTheNewestThatIsWhole) {
  const fs::path good = write(1);
  const fs::path flipped = write(2);
  const fs::path cut = write(3);
  std::string bytes = read_bytes(flipped / "parameters-00001.bin");
  bytes[0] ^= 1;
  write_bytes(flipped / "parameters-00001.bin", bytes);
  write_bytes(cut / "MANIFEST", "");
  fs::create_directory_symlink(good, root() / "step-00000004");
  std::vector<std::string> problems;
  EXPECT_EQ(newest_checkpoint(root()), flipped);  // its sizes are right
  EXPECT_EQ(newest_verified_checkpoint(root(), &problems), good);
  EXPECT_THAT(problems, ElementsAre(HasSubstr("step-00000004: is not a directory"),
                                    HasSubstr("step-00000003/MANIFEST"),
                                    HasSubstr("step-00000002/parameters-00001.bin, byte 0")));
}

TEST_F(Checkpoints, ArePrunedToTheNewestAndThePinned) {
  std::vector<fs::path> paths;
  for (std::int64_t step = 0; step < 6; ++step) {
    paths.push_back(write(step));
  }
  fs::create_directory(root() / "step-00000099.tmp");
  write_bytes(root() / "notes.tmp", "the user's");
  write_bytes(paths[2] / "MANIFEST", "damaged");
  const std::vector<fs::path> pinned{paths[1] / ""};
  prune_checkpoints(root(), 2, pinned);
  EXPECT_THAT(list_checkpoints(root()), ElementsAre(paths[1], paths[4], paths[5]));
  EXPECT_TRUE(fs::exists(paths[2]));  // evidence
  EXPECT_TRUE(fs::exists(root() / "notes.tmp"));
  EXPECT_FALSE(fs::exists(root() / "step-00000099.tmp"));
  EXPECT_FALSE(fs::exists(paths[0]));
  EXPECT_FALSE(fs::exists(paths[3]));
  EXPECT_THROW(prune_checkpoints(root(), 0, {}), InvalidArgument);
}

// A newer one is what the run has passed over: damaged where nobody looks, for all that is known.
TEST_F(Checkpoints, NewerThanTheOneJustWrittenNeitherCountNorGo) {
  std::vector<fs::path> paths;
  for (std::int64_t step = 0; step < 4; ++step) {
    paths.push_back(write(step));
  }
  prune_checkpoints(root(), 1, {}, 2);
  EXPECT_THAT(list_checkpoints(root()), ElementsAre(paths[2], paths[3]));
}

TEST_F(Checkpoints, NewerThanTheOneThatIsGoneOnFromAreSetAside) {
  const fs::path good = write(1);
  for (int i = 0; i < 2; ++i) {
    const fs::path newer = write(2);
    set_aside_newer(root(), 1);
    EXPECT_THAT(list_checkpoints(root()), ElementsAre(good));
    EXPECT_TRUE(fs::exists(newer.native() + (i == 0 ? ".damaged" : ".damaged-2")));
  }
  set_aside_newer(root() / "nothing", 0);
}

// Every block can be as it was written, and the whole not what it was said to be.
TEST_F(Checkpoints, WithAnotherHashOfTheirParametersArePassedOver) {
  const ParameterLayout layout = testing::small_layout();
  std::vector<fs::path> paths;
  on_one_rank([&](bsp::World& world) {
    const testing::RankState state(0, 1);
    for (std::int64_t step = 1; step <= 2; ++step) {
      Manifest manifest = testing::small_manifest(step);
      manifest.parameters_hash = layout.parameters_hash(testing::whole_array("parameters"));
      manifest.parameters_hash.low ^= step == 2 ? 1U : 0U;
      paths.push_back(write_checkpoint(world, root(), manifest, state.parts()).directory);
    }
  });
  std::vector<std::string> problems;
  EXPECT_EQ(newest_verified_checkpoint(root(), &problems), paths[1]);
  EXPECT_THAT(problems, IsEmpty());
  EXPECT_EQ(newest_verified_checkpoint(root(), &problems, &layout), paths[0]);
  EXPECT_THAT(problems, ElementsAre(AllOf(HasSubstr("step-00000002"), HasSubstr("have hash"))));
  // Another model is refused by name, later.
  ParameterLayout other;
  other.add({.name = "other", .shape = {3}});
  other.freeze();
  EXPECT_EQ(newest_verified_checkpoint(root(), nullptr, &other), paths[1]);
}

// A child writes one checkpoint after another until it is killed; whatever the moment, all that is
// named like a checkpoint is whole.
TEST_F(Checkpoints, AreWholeOrAbsentAfterAKillAtAnyMoment) {
  const auto begin = std::chrono::steady_clock::now();
  write(0);
  const auto one_write = std::chrono::steady_clock::now() - begin;
  constexpr int kTrials = 20;  // and more on a machine too busy for a child to write one in time
  constexpr int kMostTrials = 200;
  std::int64_t first_step = 1;
  for (int trial = 1;
       trial <= kTrials || (trial < kMostTrials && list_checkpoints(root()).size() < 2);
       ++trial, first_step += 1000) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      on_one_rank([&](bsp::World& world) {
        for (std::int64_t step = first_step;; ++step) {
          write_small(world, root(), step);
        }
      });
      ::_exit(1);
    }
    std::this_thread::sleep_for(one_write * 3 * trial / kTrials);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    std::vector<std::string> problems;
    ASSERT_TRUE(newest_verified_checkpoint(root(), &problems).has_value());
    ASSERT_THAT(problems, IsEmpty()) << "trial " << trial;
  }
  EXPECT_GT(list_checkpoints(root()).size(), 1U) << "no child lived long enough to write one";
  for (const fs::path& path : list_checkpoints(root())) {
    EXPECT_EQ(problem_of(path), "");
  }
  prune_checkpoints(root(), 1, {});
  EXPECT_EQ(std::distance(fs::directory_iterator(root()), {}), 1);
}

}  // namespace
}  // namespace superstep::paramserver
