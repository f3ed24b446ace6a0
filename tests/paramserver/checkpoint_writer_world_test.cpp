// Checkpoints written beside the training are those of write_checkpoint(), byte for byte.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "base/as_size.h"
#include "base/error.h"
#include "paramserver/checkpoint_protocol.h"
#include "paramserver/checkpoint_writer.h"
#include "tests/paramserver/checkpoint_fixture.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"

namespace superstep::paramserver {
namespace {

namespace fs = std::filesystem;
using testing::WorldDirectory;

constexpr auto kBeside = CheckpointWriter::Run::kInBackground;
constexpr std::int64_t kNumElements = 5 * kBlockElements + 77;

// This rank's blocks of an array whose elements count up from `first`.
struct Own {
  Own(const bsp::World& world, float first) {
    const std::int64_t blocks = (kNumElements + kBlockElements - 1) / kBlockElements;
    const auto cut = [&](int rank) {
      return std::min(kNumElements, blocks * rank / world.size() * kBlockElements);
    };
    range = {cut(world.rank()),
             world.rank() + 1 == world.size() ? kNumElements : cut(world.rank() + 1)};
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      values.push_back(first + static_cast<float>(i));
    }
  }
  std::vector<ArrayPart> parts() const {
    return {{.name = "parameters", .num_elements = kNumElements, .range = range, .values = values}};
  }
  ElementRange range;
  std::vector<float> values;
};

Manifest manifest_at(std::int64_t superstep) {
  Manifest manifest;
  manifest.run_id = "run";
  manifest.position.superstep = superstep;
  return manifest;
}

std::string bytes_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

SUPERSTEP_WORLD_TEST_ON_NODES(CheckpointWriter, WritesWhatStoodThereAtItsBeginning) {
  const WorldDirectory directory(world);
  const fs::path before = directory.path() / "before";
  const fs::path beside = directory.path() / "beside";
  Own own(world, 1.0F);
  const WrittenCheckpoint expected = write_checkpoint(world, before, manifest_at(7), own.parts());
  CheckpointWriter writer(world);
  EXPECT_FALSE(writer.is_in_work());
  bool seen_valid = false;
  writer.begin(kBeside, beside, manifest_at(7), own.parts(),
               [&] { seen_valid = newest_checkpoint(beside).has_value(); });
  std::fill(own.values.begin(), own.values.end(), -1.0F);  // training goes on
  int comparisons = 1;
  std::optional<WrittenCheckpoint> written = writer.advance();
  while (!written.has_value()) {
    EXPECT_TRUE(writer.is_in_work());
    written = writer.advance();
    ++comparisons;
  }
  EXPECT_EQ(comparisons, 4);
  EXPECT_EQ(seen_valid, world.rank() == 0);
  EXPECT_FALSE(writer.is_in_work());
  EXPECT_EQ(written->directory, beside / "step-00000007");
  EXPECT_EQ(written->superstep, 7);
  EXPECT_EQ(written->state_hash, expected.state_hash);
  for (const char* file : {"parameters-00000.bin", "MANIFEST"}) {
    EXPECT_EQ(bytes_of(written->directory / file), bytes_of(expected.directory / file)) << file;
  }
  world.sync();
}

SUPERSTEP_WORLD_TEST(CheckpointWriter, WritesOneAfterAnother) {
  const WorldDirectory directory(world);
  CheckpointWriter writer(world);
  for (int i = 1; i <= 3; ++i) {
    const Own own(world, static_cast<float>(i));
    writer.begin(kBeside, directory.path(), manifest_at(i), own.parts());
    EXPECT_EQ(writer.finish().superstep, i);
  }
  world.sync();
  EXPECT_EQ(list_checkpoints(directory.path()).size(), 3U);
  CheckpointReader(directory.path() / "step-00000002").verify();
  world.sync();
}

SUPERSTEP_WORLD_TEST(CheckpointWriter, AFailureIsTheSameOnEveryRankAndEndsTheWork) {
  const WorldDirectory directory(world);
  const Own own(world, 1.0F);
  CheckpointWriter writer(world);
  writer.begin(kBeside, directory.path() / "missing" / "checkpoints", manifest_at(1), own.parts());
  try {
    writer.finish();
    FAIL() << "nothing was thrown";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("no such directory"), std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(writer.is_in_work());
  writer.begin(kBeside, directory.path(), manifest_at(1), own.parts());
  writer.finish();
  world.sync();
  EXPECT_EQ(list_checkpoints(directory.path()).size(), 1U);
  world.sync();
}

// The hashes of parts are those that the files get; a part may refuse them.
SUPERSTEP_WORLD_TEST(CheckpointWriter, APartThatRefusesItsHashesIsNotWritten) {
  const WorldDirectory directory(world);
  const Own own(world, 1.0F);
  std::vector<ArrayPart> parts = own.parts();
  const std::vector<std::uint64_t> expected = hash_blocks(parts[0].values);
  int calls = 0;
  parts[0].check_hashes = [&](std::span<const std::uint64_t> hashes) {
    ++calls;
    EXPECT_TRUE(std::equal(hashes.begin(), hashes.end(), expected.begin(), expected.end()));
    if (world.rank() == world.size() - 1) {
      throw DataError("memory", "node", -1, "a bit flipped", ExitCode::kCorruption);
    }
  };
  CheckpointWriter writer(world);
  writer.begin(kBeside, directory.path(), manifest_at(1), parts);
  try {
    writer.finish();
    FAIL() << "nothing was thrown";
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
    EXPECT_NE(std::string(error.what()).find("a bit flipped"), std::string::npos) << error.what();
  }
  EXPECT_EQ(calls, 1);
  world.sync();
  EXPECT_TRUE(fs::is_empty(directory.path()));
  world.sync();
}

// Also where parts are views of what is published, as those of a server are.
SUPERSTEP_WORLD_TEST_ON_NODES(CheckpointWriter, HashesThePublishedParametersOfItsBeginning) {
  const ParameterLayout layout = testing::small_layout();
  std::vector<float> published = testing::whole_array("parameters", 1);
  const Hash128 expected = layout.parameters_hash(published);
  const ElementRange shard = layout.shard(world.rank(), world.size());
  const std::span<const float> own =
      std::span(published).subspan(as_size(shard.begin), as_size(shard.length()));
  const std::vector<float> state(own.begin(), own.end());
  const std::vector<ArrayPart> parts = {
      {.name = "parameters", .num_elements = layout.size(), .range = shard, .values = own},
      {.name = "momentum", .num_elements = layout.size(), .range = shard, .values = state}};
  const WorldDirectory directory(world);
  CheckpointWriter writer(world);
  writer.reserve(parts, {.layout = &layout, .values = published});
  writer.begin(kBeside, directory.path(), manifest_at(1), parts, nullptr, {},
               {.layout = &layout, .values = published});
  std::fill(published.begin(), published.end(), -1.0F);  // training goes on
  writer.finish();
  world.sync();
  const CheckpointReader reader(directory.path() / "step-00000001");
  EXPECT_EQ(reader.manifest().parameters_hash, expected);
  std::vector<float> values(as_size(layout.size()));
  for (const char* array : {"parameters", "momentum"}) {
    reader.read(array, {0, layout.size()}, values);
    EXPECT_EQ(layout.parameters_hash(values), expected) << array;
  }
  world.sync();
}

// What rank 0 sees of another rank's parameters must be what that rank has, or the hash of the
// whole would be of something else than the blocks.
SUPERSTEP_WORLD_TEST(CheckpointWriter, RefusesPublishedParametersThatAreNotTheirOwners) {
  const ParameterLayout layout = testing::small_layout();
  const testing::RankState own(world.rank(), world.size());
  std::vector<float> published = testing::whole_array("parameters");
  published.back() += world.rank() == 0 ? 1.0F : 0.0F;
  const WorldDirectory directory(world);
  CheckpointWriter writer(world);
  writer.begin(kBeside, directory.path(), manifest_at(1), own.parts(), nullptr, {},
               {.layout = &layout, .values = published});
  try {
    writer.finish();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
    EXPECT_NE(std::string(error.what()).find("sees other parameters than their owner"),
              std::string::npos)
        << error.what();
  }
  world.sync();
  EXPECT_TRUE(fs::is_empty(directory.path()));
  world.sync();
}

SUPERSTEP_WORLD_TEST(CheckpointWriter, AnUnfinishedOneIsNoCheckpoint) {
  const WorldDirectory directory(world);
  const Own own(world, 1.0F);
  {
    CheckpointWriter writer(world);
    writer.begin(kBeside, directory.path(), manifest_at(1), own.parts());
    writer.advance();
    writer.advance();  // files are being written
  }
  world.sync();
  EXPECT_TRUE(list_checkpoints(directory.path()).empty());
  EXPECT_EQ(write_checkpoint(world, directory.path(), manifest_at(1), own.parts()).superstep, 1);
  world.sync();
}

}  // namespace
}  // namespace superstep::paramserver
