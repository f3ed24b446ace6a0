// Who keeps whose parts, and what is taken for a piece.

#include "paramserver/partner_piece.h"

#include <vector>

#include <gmock/gmock.h>

#include "base/error.h"
#include "paramserver/checkpoint_protocol.h"
#include "paramserver/partner_copy.h"
#include "tests/base/temporary_directory.h"
#include "tests/paramserver/checkpoint_fixture.h"
#include "tests/support/error_text.h"

namespace superstep::paramserver {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

std::vector<int> partners(const std::vector<int>& node_of_rank) {
  return partners_of(node_of_rank);
}

TEST(Partners, AreAtTheSamePlaceOfTheNextNode) {
  EXPECT_THAT(partners({0, 0, 1, 1}), ElementsAre(2, 3, 0, 1));
  EXPECT_THAT(partners({0, 1, 2}), ElementsAre(1, 2, 0));
}

TEST(Partners, ShareARankOfASmallerNode) {
  EXPECT_THAT(partners({0, 0, 0, 1, 1}), ElementsAre(3, 4, 3, 0, 1));
  EXPECT_THAT(partners({0, 1, 1, 1}), ElementsAre(1, 0, 0, 0));
}

TEST(Partners, AreTheNextRankOnOneNode) {
  EXPECT_THAT(partners({0, 0, 0}), ElementsAre(1, 2, 0));
  EXPECT_THAT(partners({0}), ElementsAre(0));
}

// A piece with elements [4,096, 4,100) of an array, made as partners make them.
fs::path make_piece(const fs::path& directory, std::int64_t superstep) {
  const std::vector<float> values = {1, 2, 3, 4};
  Manifest manifest = testing::small_manifest(superstep);
  manifest.arrays = {{.name = "parameters",
                      .num_elements = 4,
                      .blocks = {hash_span<float>(std::span<const float>(values))}}};
  describe_piece({.state_hash = {.low = 5, .high = 6},
                  .begins = {{"parameters", kBlockElements}},
                  .checkpoint_manifest = {}},
                 manifest);
  fs::path temporary = directory;
  temporary += ".tmp";
  prepare(temporary, directory, manifest);
  const std::vector<ArrayPart> parts = {
      {.name = "parameters", .num_elements = 4, .range = {0, 4}, .values = values}};
  write_parts(temporary, parts, manifest.file_elements);
  seal(temporary, directory, manifest);
  return directory;
}

std::string error_of_reading(const fs::path& directory, const std::string& run_id) {
  return error_text<DataError>([&] { read_piece(directory, run_id); });
}

TEST(Piece, SaysWhereItBelongs) {
  const testing::TemporaryDirectory directory;
  const Piece piece = read_piece(make_piece(directory.path() / "step-00000003", 3), "run-1");
  EXPECT_EQ(piece.superstep, 3);
  EXPECT_EQ(piece.state_hash, (Hash128{.low = 5, .high = 6}));
  EXPECT_EQ(piece.ranges.at("parameters"), (ElementRange{kBlockElements, kBlockElements + 4}));
  EXPECT_TRUE(piece.checkpoint_manifest.empty());
}

TEST(Piece, IsRefusedOfAnotherRunOrSuperstep) {
  const testing::TemporaryDirectory directory;
  const fs::path path = make_piece(directory.path() / "step-00000003", 3);
  EXPECT_THAT(error_of_reading(path, "run-2"), HasSubstr("got run run-1, expected run run-2"));
  fs::rename(path, directory.path() / "step-00000004");
  EXPECT_THAT(error_of_reading(directory.path() / "step-00000004", "run-1"),
              HasSubstr("holds superstep 3"));
}

TEST(Piece, IsNoCheckpointOfItsOwn) {
  const testing::TemporaryDirectory directory;
  Manifest manifest = testing::complete_manifest(3);
  const fs::path path = directory.path() / "step-00000003";
  prepare(directory.path() / "step-00000003.tmp", path, manifest);
  seal(directory.path() / "step-00000003.tmp", path, manifest);
  EXPECT_THAT(error_of_reading(path, "run-1"), HasSubstr("names no checkpoint"));
}

TEST(Piece, LiesBelowTheNameOfItsRun) {
  EXPECT_EQ(pieces_of_run("/disk", "run-1") / owner_directory_name(1, 4),
            "/disk/run-1/rank-00001-of-00004");
  for (const char* bad : {"", ".", "..", "a/b"}) {
    EXPECT_THROW(pieces_of_run("/disk", bad), InvalidArgument) << bad;
  }
}

TEST(Piece, OlderOnesGoAndLaterOnesStay) {
  const testing::TemporaryDirectory directory;
  const auto make = [&](const char* owner, std::int64_t superstep) {
    fs::create_directory(directory.path() / owner);
    make_piece(directory.path() / owner / ("step-0000000" + std::to_string(superstep)), superstep);
  };
  for (const std::int64_t superstep : {1, 2, 3, 4, 6}) {
    make("rank-00000-of-00002", superstep);
  }
  make("rank-00002-of-00003", 1);  // of the run on other ranks
  make("rank-00002-of-00003", 4);
  make("rank-00001-of-00003", 2);
  fs::create_directories(directory.path() / "rank-00000-of-00002" / "step-00000005.tmp");
  const std::vector<fs::path> pinned = {"elsewhere/step-00000001"};
  prune_pieces(directory.path(), 4, 2, pinned);
  std::vector<std::string> left;
  for (const auto& [superstep, path] : pieces_in(directory.path())) {
    left.push_back(path.lexically_relative(directory.path()));
  }
  EXPECT_THAT(left, ::testing::UnorderedElementsAre(
                        "rank-00000-of-00002/step-00000001", "rank-00000-of-00002/step-00000003",
                        "rank-00000-of-00002/step-00000004", "rank-00000-of-00002/step-00000006",
                        "rank-00002-of-00003/step-00000001", "rank-00002-of-00003/step-00000004"));
  EXPECT_FALSE(fs::exists(directory.path() / "rank-00000-of-00002" / "step-00000005.tmp"));
  EXPECT_FALSE(fs::exists(directory.path() / "rank-00001-of-00003"));
}

}  // namespace
}  // namespace superstep::paramserver
