// Partner copies: what a run's directory loses comes back from the other nodes, byte for byte.

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "base/error.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_writer.h"
#include "paramserver/partner_piece.h"
#include "paramserver/partner_restore.h"
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
using ::superstep::testing::overwrite_byte;
using ::superstep::testing::RankState;
using ::superstep::testing::small_layout;
using ::superstep::testing::small_manifest;
using ::superstep::testing::WorldDirectory;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kRun = "run-1";  // of small_manifest()

// A run's checkpoints, and a disk of each node for the copies.
class CopiedRun {
 public:
  explicit CopiedRun(bsp::World& world, const std::string& run_id = kRun)
      : world_(world), directory_(world), run_id_(run_id) {
    if (world.rank() == 0) {
      fs::create_directory(root() / "run");
    }
    world.sync();
  }

  fs::path root() const { return directory_.path(); }
  fs::path checkpoints() const { return root() / "run" / "checkpoints"; }
  fs::path step(std::int64_t superstep) const {
    return checkpoints() / step_directory_name(superstep);
  }
  fs::path disk_of(int node) const { return root() / ("disk-" + std::to_string(node)); }
  fs::path piece_of(int owner, std::int64_t superstep) const {
    return disk_of(world_.node_of(keeper_of(owner))) / run_id_ /
           owner_directory_name(owner, world_.size()) / step_directory_name(superstep);
  }
  int keeper_of(int owner) const {
    std::vector<int> nodes(static_cast<std::size_t>(world_.size()));
    for (int rank = 0; rank < world_.size(); ++rank) {
      nodes[static_cast<std::size_t>(rank)] = world_.node_of(rank);
    }
    return partners_of(nodes)[static_cast<std::size_t>(owner)];
  }
  // The first rank with elements: with more ranks than blocks some have none.
  int first_owner() const {
    int owner = 0;
    while (small_layout().shard(owner, world_.size()).length() == 0) {
      ++owner;
    }
    return owner;
  }

  // Collective, like all that follow.
  void write(std::int64_t superstep, int keep = 3) {
    const RankState state(world_.rank(), world_.size());
    CheckpointWriter writer(world_);
    Manifest manifest = small_manifest(superstep);
    manifest.run_id = run_id_;
    writer.begin(CheckpointWriter::Run::kHere, checkpoints(), manifest, state.parts(), nullptr,
                 {.directory = disk_of(world_.node()), .keep = keep});
    writer.finish();
    world_.sync();
  }
  // On rank 0, seen by all.
  void break_with(const std::function<void()>& harm) {
    world_.sync();
    if (world_.rank() == 0) {
      harm();
    }
    world_.sync();
  }
  RestoredFromPartners restore() {
    const auto newest = newest_verified_checkpoint(checkpoints(), nullptr);
    const std::int64_t newer_than =
        newest ? CheckpointReader(*newest).manifest().position.superstep : -1;
    world_.sync();
    RestoredFromPartners restored =
        restore_from_partners(world_, {.partner_directory = disk_of(world_.node()),
                                       .run_id = run_id_,
                                       .checkpoints = checkpoints(),
                                       .newer_than = world_.rank() == 0 ? newer_than : 99});
    world_.sync();
    return restored;
  }

 private:
  bsp::World& world_;
  WorldDirectory directory_;
  std::string run_id_;
};

void remove_all_named(const fs::path& directory, const std::string& part) {
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().filename().native().find(part) != std::string::npos) {
      fs::remove_all(entry.path());
    }
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, LieOnTheNextNode) {
  CopiedRun run(world);
  run.write(1);
  for (int owner = 0; owner < world.size(); ++owner) {
    const ElementRange range = small_layout().shard(owner, world.size());
    if (range.length() == 0) {
      continue;
    }
    const Piece piece = read_piece(run.piece_of(owner, 1), kRun);
    EXPECT_EQ(piece.ranges.at("parameters"), range);
    EXPECT_EQ(piece.ranges.at("momentum"), range);
    CheckpointReader(run.piece_of(owner, 1)).verify();
    const fs::path own =
        run.disk_of(world.node_of(owner)) / kRun / owner_directory_name(owner, world.size());
    EXPECT_EQ(fs::exists(own), world.num_nodes() == 1) << own;
  }
  for (int node = 0; node < world.num_nodes(); ++node) {
    int manifests = 0;
    for (const auto& [superstep, path] : pieces_in(run.disk_of(node) / kRun)) {
      manifests += read_piece(path, kRun).checkpoint_manifest.empty() ? 0 : 1;
    }
    EXPECT_EQ(manifests, 1) << "node " << node;
  }
  EXPECT_EQ(files_in(run.step(1)), expected_files(1));
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, RepairEveryFileThatIsDeletedOrDamaged) {
  CopiedRun run(world);
  run.write(1);
  run.write(2);
  const std::map<std::string, std::string> whole = expected_files(2);
  for (const auto& [name, content] : whole) {
    const fs::path file = run.step(2) / name;
    const std::size_t middle = content.size() / 2;
    const char flipped = static_cast<char>(content[middle] ^ 4);
    for (const bool deleted : {true, false}) {
      run.break_with([&] {
        if (deleted) {
          fs::remove(file);
        } else {
          overwrite_byte(file, middle, flipped);
        }
      });
      const RestoredFromPartners restored = run.restore();
      EXPECT_TRUE(restored.any) << name;
      EXPECT_THAT(restored.lines,
                  ElementsAre(AllOf(HasSubstr("restored " + run.step(2).native()),
                                    HasSubstr("copies on " + world.host_of(0)), HasSubstr(name))));
      EXPECT_EQ(files_in(run.step(2)), whole) << name;
      // So that the next file comes from the partners.
      run.break_with([&] { remove_all_named(run.checkpoints(), ".damaged"); });
    }
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, BringBackADirectoryThatIsGone) {
  CopiedRun run(world);
  run.write(1);
  run.write(2);
  run.break_with([&] { fs::remove_all(run.checkpoints()); });
  const RestoredFromPartners restored = run.restore();
  EXPECT_TRUE(restored.any);
  EXPECT_THAT(restored.lines,
              ElementsAre(AllOf(HasSubstr("with 10 of 10 blocks"), HasSubstr("(it was missing)"))));
  EXPECT_EQ(files_in(run.step(2)), expected_files(2));
  EXPECT_FALSE(fs::exists(run.step(1)));  // an older one is of no use
  world.sync();
  const RestoredFromPartners again = run.restore();
  EXPECT_FALSE(again.any);
  EXPECT_THAT(again.lines, ElementsAre());
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, WhatNobodyHasIsSaidAndTheOlderOneIsUsed) {
  CopiedRun run(world);
  run.write(1);
  run.write(2);
  run.break_with([&] {
    fs::remove(run.step(2) / "momentum-00000.bin");
    overwrite_byte(run.piece_of(run.first_owner(), 2) / "momentum-00000.bin", 17, 'x');
  });
  const RestoredFromPartners restored = run.restore();
  EXPECT_FALSE(restored.any);
  EXPECT_THAT(restored.lines, ElementsAre(AllOf(HasSubstr("cannot restore " + run.step(2).native()),
                                                HasSubstr(": missing 1 of 5 blocks of momentum"))));
  EXPECT_EQ(newest_verified_checkpoint(run.checkpoints(), nullptr), run.step(1));
  EXPECT_TRUE(fs::exists(run.step(2) / "MANIFEST"));  // nothing was moved
  run.break_with([&] { fs::remove_all(run.checkpoints()); });
  const RestoredFromPartners older = run.restore();
  EXPECT_TRUE(older.any);
  EXPECT_EQ(older.lines.size(), 2U);
  EXPECT_EQ(files_in(run.step(1)), expected_files(1));
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, ThatCannotBeReadAreNamed) {
  CopiedRun run(world);
  run.write(2);
  run.break_with([&] {
    fs::remove_all(run.checkpoints());
    for (int node = 0; node < world.num_nodes(); ++node) {
      for (const auto& [superstep, path] : pieces_in(run.disk_of(node) / kRun)) {
        if (!read_piece(path, kRun).checkpoint_manifest.empty()) {
          overwrite_byte(path / "MANIFEST", 100, '\0');
        }
      }
    }
  });
  const RestoredFromPartners restored = run.restore();
  EXPECT_FALSE(restored.any);
  int skipped = 0;
  int incomplete = 0;
  for (const std::string& line : restored.lines) {
    skipped += line.starts_with("skipped partner copies on " + world.host_of(0)) ? 1 : 0;
    incomplete += line.ends_with("step-00000002 from partner copies: missing its manifest") ? 1 : 0;
  }
  EXPECT_EQ(skipped, world.num_nodes());
  EXPECT_EQ(skipped + incomplete, static_cast<int>(restored.lines.size()));
  EXPECT_EQ(incomplete, world.size() > world.num_nodes() ? 1 : 0);  // other pieces tell of it
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, CompleteWhatTheRunStillHas) {
  CopiedRun run(world);
  run.write(2);
  // As after a restoration that was interrupted: the damaged directory is aside. What the first
  // owner had is nowhere else, and what the last file had is with the partners alone.
  run.break_with([&] {
    fs::remove(run.step(2) / "parameters-00002.bin");
    fs::rename(run.step(2), run.checkpoints() / "step-00000002.damaged");
    if (world.size() > 1) {
      fs::remove(run.piece_of(run.first_owner(), 2) / "parameters-00000.bin");
    }
  });
  const RestoredFromPartners restored = run.restore();
  EXPECT_TRUE(restored.any);
  EXPECT_EQ(files_in(run.step(2)), expected_files(2));
  EXPECT_THAT(restored.lines, ElementsAre(HasSubstr("with 1 of 10 blocks")));
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, RestoreOnAnyRanksWhatAnyRanksWrote) {
  const WorldDirectory directory(world);
  const fs::path shared = directory.path() / "shared";  // one partner directory for all nodes
  for (int writers = 1; writers <= world.size(); ++writers) {
    const fs::path root = directory.path() / std::to_string(writers);
    Manifest manifest = small_manifest(2);
    manifest.run_id = "of-" + std::to_string(writers);
    {
      bsp::World group = world.split(world.rank() < writers ? 0 : 1, world.rank());
      if (world.rank() < writers) {
        const RankState state(group.rank(), group.size());
        CheckpointWriter writer(group);
        writer.begin(CheckpointWriter::Run::kHere, root, manifest, state.parts(), nullptr,
                     {.directory = shared});
        writer.finish();
      }
    }
    world.sync();
    const std::map<std::string, std::string> whole = files_in(root / "step-00000002");
    world.sync();
    if (world.rank() == 0) {
      fs::remove_all(root / "step-00000002");
    }
    const auto restored = restore_from_partners(
        world, {.partner_directory = shared, .run_id = manifest.run_id, .checkpoints = root});
    EXPECT_TRUE(restored.any) << writers << " writers";
    world.sync();
    EXPECT_EQ(files_in(root / "step-00000002"), whole);
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, HoldTheStateAtTheBeginning) {
  CopiedRun run(world);
  RankState state(world.rank(), world.size());
  std::vector<std::vector<float>> values;
  std::vector<ArrayPart> parts = state.parts();
  for (ArrayPart& part : parts) {
    values.emplace_back(part.values.begin(), part.values.end());
    part.values = values.back();
  }
  CheckpointWriter writer(world);
  writer.begin(CheckpointWriter::Run::kInBackground, run.checkpoints(), small_manifest(2), parts,
               nullptr, {.directory = run.disk_of(world.node())});
  for (std::vector<float>& array : values) {
    std::fill(array.begin(), array.end(), -1.0F);  // training goes on
  }
  writer.finish();
  run.break_with([&] { fs::remove_all(run.checkpoints()); });
  EXPECT_TRUE(run.restore().any);
  EXPECT_EQ(files_in(run.step(2)), expected_files(2));
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, AreKeptAsLongAsTheCheckpoints) {
  CopiedRun run(world);
  for (const std::int64_t superstep : {1, 2, 3, 4}) {
    run.write(superstep, 2);
  }
  EXPECT_TRUE(fs::exists(run.piece_of(run.first_owner(), 3)));
  for (int node = 0; node < world.num_nodes(); ++node) {
    for (const auto& [superstep, path] : pieces_in(run.disk_of(node) / kRun)) {
      EXPECT_GE(superstep, 3) << path;
    }
  }
  world.sync();
}

// As nodes do that share a directory. Pieces are looked at by name alone.
SUPERSTEP_WORLD_TEST(PartnerCopies, AreDeletedByAllNodesAtOnce) {
  const WorldDirectory directory(world);
  const auto step = [&](int owner, std::int64_t superstep) {
    return directory.path() / owner_directory_name(owner, 20) / step_directory_name(superstep);
  };
  if (world.rank() == 0) {
    for (int owner = 0; owner < 20; ++owner) {
      for (const std::int64_t superstep : {1, 2, 3}) {
        if (superstep == 3 && owner % 2 == 1) {
          continue;  // of a run on other ranks: nothing of it stays
        }
        fs::create_directories(step(owner, superstep));
        for (const char* name : {"MANIFEST", "momentum-00000.bin", "parameters-00000.bin"}) {
          testing::write_bytes(step(owner, superstep) / name, "bytes");
        }
      }
      fs::create_directory(step(owner, 4).native() + ".tmp");
    }
  }
  world.sync();
  EXPECT_NO_THROW(prune_pieces(directory.path(), 3, 1, {}));
  world.sync();
  const auto left = pieces_in(directory.path());
  EXPECT_EQ(left.size(), 10U);
  for (const auto& [superstep, path] : left) {
    EXPECT_EQ(superstep, 3) << path;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 10);
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, OfTwoRunsShareADirectory) {
  CopiedRun one(world);
  const fs::path disk = one.disk_of(world.node());
  const RankState others(world.rank(), world.size(), 1);
  Manifest manifest = small_manifest(2);
  manifest.run_id = "run-2";
  const fs::path other_root = one.root() / "other";
  one.write(2, 1);
  CheckpointWriter writer(world);
  for (const std::int64_t superstep : {2, 3}) {
    manifest.position.superstep = superstep;
    writer.begin(CheckpointWriter::Run::kHere, other_root, manifest, others.parts(), nullptr,
                 {.directory = disk, .keep = 1});
    writer.finish();
  }
  one.break_with([&] { fs::remove_all(one.checkpoints()); });
  EXPECT_TRUE(one.restore().any);
  EXPECT_EQ(files_in(one.step(2)), expected_files(2));
  EXPECT_FALSE(fs::exists(one.step(3)));
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, ThatCannotBeWrittenEndTheCheckpointOnEveryRank) {
  CopiedRun run(world);
  run.write(1);
  const fs::path blocked = run.root() / "blocked";
  run.break_with([&] { testing::write_bytes(blocked, "a file, no directory"); });
  const int unlucky = run.keeper_of(run.first_owner());
  const RankState state(world.rank(), world.size());
  CheckpointWriter writer(world);
  writer.begin(CheckpointWriter::Run::kInBackground, run.checkpoints(), small_manifest(2),
               state.parts(), nullptr,
               {.directory = world.rank() == unlucky ? blocked : run.disk_of(world.node())});
  EXPECT_THAT(error_text<DataError>([&] { writer.finish(); }),
              AllOf(HasSubstr("not written: rank " + std::to_string(unlucky) +
                              ": partner copy on host " + world.host_of(unlucky)),
                    HasSubstr(blocked.native()), HasSubstr("cannot create the directory")));
  EXPECT_FALSE(writer.is_in_work());
  world.sync();
  EXPECT_EQ(newest_verified_checkpoint(run.checkpoints(), nullptr), run.step(1));
  EXPECT_FALSE(fs::exists(run.checkpoints() / "step-00000002.tmp"));
  world.sync();
  run.write(2);  // the directory is right again
  EXPECT_EQ(files_in(run.step(2)), expected_files(2));
  world.sync();
}

SUPERSTEP_WORLD_TEST_ON_NODES(PartnerCopies, OfAnAttemptThatWasLostAreWrittenAnew) {
  CopiedRun run(world);
  run.write(2);
  run.break_with([&] { fs::remove_all(run.step(2)); });
  const RankState other(world.rank(), world.size(), 1);  // another schedule, say
  CheckpointWriter writer(world);
  writer.begin(CheckpointWriter::Run::kHere, run.checkpoints(), small_manifest(2), other.parts(),
               nullptr, {.directory = run.disk_of(world.node())});
  writer.finish();
  run.break_with([&] { fs::remove_all(run.checkpoints()); });
  EXPECT_TRUE(run.restore().any);
  EXPECT_EQ(files_in(run.step(2)), expected_files(2, 1));
  world.sync();
}

}  // namespace
}  // namespace superstep::paramserver
