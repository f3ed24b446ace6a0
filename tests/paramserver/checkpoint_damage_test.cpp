// Every truncation and every single-bit flip of a checkpoint of 64 KiB is found: half a million
// damaged checkpoints, none accepted. Slow; the small checkpoints of checkpoint_test.cpp get the
// same treatment in every run of the tests.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "bsp/environment.h"
#include "paramserver/checkpoint.h"
#include "tests/base/temporary_directory.h"
#include "tests/paramserver/checkpoint_fixture.h"

namespace superstep::paramserver {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kElements = 4 * kBlockElements;  // 64 KiB

class CheckpointDamage : public ::testing::Test {
 protected:
  void SetUp() override {
    bsp::Environment environment;
    ASSERT_EQ(
        environment.run(
            {},
            [&](bsp::World& world) {
              const std::vector<float> values = testing::whole_array("parameters");
              const std::vector<ArrayPart> parts{{.name = "parameters",
                                                  .num_elements = kElements,
                                                  .range = {0, kElements},
                                                  .values = std::span(values).first(kElements)}};
              Manifest manifest = testing::small_manifest(1);
              manifest.file_elements = kFileElements;
              path_ = write_checkpoint(world, directory_.path(), manifest, parts).directory;
            }),
        0);
    // What a damaged file makes the reader allocate stays near the size of the files: 64 MiB more
    // than this process has now would be far too much.
    limit_memory();
  }

  static void limit_memory() {
    std::int64_t pages = 0;
    std::FILE* file = std::fopen("/proc/self/statm", "re");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(std::fscanf(file, "%ld", &pages), 1);
    std::fclose(file);
    constexpr rlim_t kMore = rlim_t{64} << 20;
    const rlim_t bytes = static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE)) + kMore;
    const rlimit limit{.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
  }

  void TearDown() override {
    const rlimit limit{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    ::setrlimit(RLIMIT_AS, &limit);
  }

  bool is_refused() const {
    try {
      CheckpointReader(path_).verify();
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
      EXPECT_NE(std::string(error.what()).find(path_.string()), std::string::npos);
      return true;
    }
    return false;
  }

  std::vector<fs::path> files() const {
    return {path_ / "MANIFEST", path_ / "parameters-00000.bin"};
  }

  testing::TemporaryDirectory directory_;
  fs::path path_;
};

TEST_F(CheckpointDamage, EveryTruncationIsFound) {
  std::int64_t found = 0;
  std::int64_t all = 0;
  for (const fs::path& path : files()) {
    const std::string content = testing::read_bytes(path);
    for (std::size_t size = content.size(); size-- > 0;) {
      ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(size)), 0);
      found += is_refused() ? 1 : 0;
      ++all;
    }
    testing::write_bytes(path, content);
    ASSERT_FALSE(is_refused());
  }
  std::printf("truncations found: %ld of %ld\n", found, all);
  EXPECT_EQ(found, all);
}

TEST_F(CheckpointDamage, EverySingleBitFlipIsFound) {
  std::int64_t found = 0;
  std::int64_t all = 0;
  for (const fs::path& path : files()) {
    const auto size = static_cast<std::size_t>(fs::file_size(path));
    const internal::FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto* bytes = static_cast<unsigned char*>(memory);
    for (std::size_t i = 0; i < size; ++i) {
      for (unsigned int bit = 0; bit < 8; ++bit) {
        bytes[i] ^= static_cast<unsigned char>(1U << bit);
        found += is_refused() ? 1 : 0;
        ++all;
        bytes[i] ^= static_cast<unsigned char>(1U << bit);
      }
    }
    ::munmap(memory, size);
    ASSERT_FALSE(is_refused());
  }
  std::printf("flips found: %ld of %ld\n", found, all);
  EXPECT_EQ(found, all);
}

}  // namespace
}  // namespace superstep::paramserver
