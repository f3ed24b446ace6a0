#include "worker/data/node_bytes.h"

#include <filesystem>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/env.h"
#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/worker/data/idx_files.h"
#include "worker/data/idx.h"

namespace superstep::worker {
namespace {

using superstep::testing::gzip;
using superstep::testing::idx_images;
using superstep::testing::TemporaryDirectory;
using superstep::testing::write_bytes;

// As one of `processes` of a machine, with a directory for temporary files of its own.
class NodeBytes : public ::testing::Test {
 protected:
  NodeBytes() {
    set_environment("TMPDIR", (directory_ / "tmp").native());
    std::filesystem::create_directory(directory_ / "tmp");
    source_ = write_bytes(directory_ / "source", "what the bytes are made from");
  }
  ~NodeBytes() override {
    unset_environment("TMPDIR");
    unset_environment("OMPI_COMM_WORLD_LOCAL_SIZE");
  }

  static void say_processes(int count) {
    set_environment("OMPI_COMM_WORLD_LOCAL_SIZE", std::to_string(count));
  }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "tmp")) {
      found.push_back(entry.path());
    }
    return found;
  }
  // 1, 2, ... in two pieces. The mapping stays, as that of another process would.
  std::vector<std::uint8_t> map_once() {
    const auto bytes = bytes_of_node(source_, [&](const ByteSink& write) {
      ++times_made_;
      std::vector<std::uint8_t> piece(100);
      std::iota(piece.begin(), piece.end(), std::uint8_t{1});
      write(std::span<const std::uint8_t>(piece).first(60));
      write(std::span<const std::uint8_t>(piece).subspan(60));
    });
    if (!bytes) {
      return {};
    }
    mapped_.push_back(*bytes);
    return {bytes->begin(), bytes->end()};
  }

  TemporaryDirectory directory_;
  std::filesystem::path source_;
  int times_made_ = 0;
  std::vector<ByteArray> mapped_;
};

TEST_F(NodeBytes, AreMadeOnceAndLeaveNothingWhenAllProcessesHaveThem) {
  say_processes(3);
  const std::vector<std::uint8_t> first = map_once();
  ASSERT_EQ(first.size(), 100U);
  EXPECT_EQ(first[59], 60);
  EXPECT_EQ(first[99], 100);
  EXPECT_EQ(files().size(), 1U);
  EXPECT_EQ(map_once(), first);
  EXPECT_EQ(files().size(), 1U);
  EXPECT_EQ(map_once(), first);
  EXPECT_EQ(files().size(), 0U);
  EXPECT_EQ(times_made_, 1);
}

TEST_F(NodeBytes, OutliveTheirName) {
  say_processes(1);
  const auto bytes = bytes_of_node(
      source_, [](const ByteSink& write) { write(std::vector<std::uint8_t>(10'000, 7)); });
  EXPECT_EQ(files().size(), 0U);
  ASSERT_TRUE(bytes.has_value());
  EXPECT_EQ(std::accumulate(bytes->begin(), bytes->end(), 0), 70'000);
}

TEST_F(NodeBytes, AreMadeAgainAfterAMakerThatFailed) {
  say_processes(2);
  EXPECT_THROW(bytes_of_node(source_,
                             [](const ByteSink& write) {
                               write(std::vector<std::uint8_t>(50, 1));
                               throw std::runtime_error("the source is damaged");
                             }),
               std::runtime_error);
  EXPECT_EQ(files().size(), 0U);
  EXPECT_EQ(map_once().size(), 100U);
}

TEST_F(NodeBytes, AreMadeAgainAfterAMakerThatWasKilled) {
  say_processes(3);
  map_once();
  ASSERT_EQ(files().size(), 1U);
  std::filesystem::resize_file(files().front(), 70);  // within the bytes: no trailer
  EXPECT_EQ(map_once().size(), 100U);
  EXPECT_EQ(times_made_, 2);
}

TEST_F(NodeBytes, AreNoneWhereNoFileCanBeMade) {
  say_processes(2);
  set_environment("TMPDIR", "/proc/self");
  EXPECT_FALSE(bytes_of_node(source_, [](const ByteSink&) {}).has_value());
}

TEST_F(NodeBytes, KeepTheValuesOfIdxFilesPlainAndPacked) {
  say_processes(2);
  const std::string bytes = idx_images(3'000, 28, 28);
  for (const auto& path :
       {write_bytes(directory_ / "i", bytes), write_bytes(directory_ / "i.gz", gzip(bytes))}) {
    const IdxArray own = read_idx(path, IdxContent::kImages);
    for (int process = 0; process < 2; ++process) {
      const IdxArray shared = read_idx(path, IdxContent::kImages, Storage::kNode);
      EXPECT_EQ(shared.sizes, own.sizes);
      EXPECT_TRUE(std::equal(own.values.begin(), own.values.end(), shared.values.begin(),
                             shared.values.end()));
    }
    EXPECT_EQ(files().size(), 0U) << path;
  }
}

TEST_F(NodeBytes, AreRefusedLikeTheFilesTheyComeFrom) {
  say_processes(2);
  const std::string packed = gzip(idx_images(3'000, 28, 28));
  const std::string plain = idx_images(30, 28, 28);
  for (const auto& path : {write_bytes(directory_ / "cut.gz", packed.substr(0, packed.size() / 2)),
                           write_bytes(directory_ / "long.gz", gzip(idx_images(30, 28, 28) + "x")),
                           write_bytes(directory_ / "cut", plain.substr(0, plain.size() - 1)),
                           write_bytes(directory_ / "long", plain + "x")}) {
    std::vector<std::string> messages;
    for (const Storage storage : {Storage::kProcess, Storage::kNode, Storage::kNode}) {
      try {
        read_idx(path, IdxContent::kImages, storage);
        ADD_FAILURE() << path << " was read";
      } catch (const DataError& error) {
        messages.emplace_back(error.what());
      }
    }
    EXPECT_EQ(messages[1], messages[0]);
    EXPECT_EQ(messages[2], messages[0]);
  }
  EXPECT_EQ(files().size(), 0U);
}

}  // namespace
}  // namespace superstep::worker
