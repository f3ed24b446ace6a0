// A disk that keeps what was synced, and of the rest what it likes.
//
// A tree of directories and files in memory with the calls of POSIX that the checkpoints use.
// Running programs see every write at once. lose_power() leaves what a machine finds after the
// power came back, as POSIX allows it and no kinder: the bytes of a file as of its last fsync, plus
// any of the later writes, whole, in part or not at all; the names in a directory as of the
// directory's own last fsync, plus any of the later changes. A rename within a directory happens or
// does not.
//
// Results are those of the system calls, with the error as a negative number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include "base/philox.h"

namespace superstep::simulation {

// What the disk, or whoever should have called it, gets wrong: for tests of the simulation itself.
enum class DiskFlaw : std::uint8_t {
  kNone,
  kFilesAreNotSynced,   // fsync of a file does nothing
  kShardsAreNotSynced,  // ... of every file but the manifest
  kNamesAreNotSynced,   // fsync of a directory does nothing
};

class Disk {
 public:
  static constexpr int kFirstDescriptor = 1 << 20;  // no real one is as large

  explicit Disk(std::uint64_t seed);
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;
  ~Disk();

  void set_flaw(DiskFlaw flaw) { flaw_ = flaw; }
  // The next changing call but `calls` fails with this error.
  void fail_after(std::int64_t calls, int error_number);

  // `directory`: an open one that a relative path starts from.
  int open(int directory, const std::filesystem::path& path, int flags);
  int close(int descriptor);
  std::int64_t read(int descriptor, std::int64_t offset, std::byte* bytes, std::size_t count) const;
  std::int64_t write(int descriptor, std::int64_t offset, const std::byte* bytes,
                     std::size_t count);
  // At the descriptor's own position, which moves on.
  std::int64_t read_next(int descriptor, std::byte* bytes, std::size_t count);
  std::int64_t write_next(int descriptor, const std::byte* bytes, std::size_t count);
  int resize(int descriptor, std::int64_t num_bytes);
  int reserve(int descriptor, std::int64_t num_bytes);  // posix_fallocate from 0
  int sync(int descriptor);
  int make_directory(const std::filesystem::path& path);
  int rename(const std::filesystem::path& from, const std::filesystem::path& to);
  int unlink(int directory, const std::filesystem::path& path, int flags);
  int status(int directory, const std::filesystem::path& path, struct stat* status) const;
  int status(int descriptor, struct stat* status) const;
  std::vector<std::string> names(int descriptor) const;

  // Nobody has anything open any more.
  void close_all();
  void lose_power();

 private:
  struct Node;
  using NodePointer = std::shared_ptr<Node>;
  struct OpenFile {
    NodePointer node;
    std::int64_t position = 0;
  };
  struct Change;
  struct Place;

  NodePointer find(int directory, const std::filesystem::path& path) const;
  std::optional<Place> parent_of(int directory, const std::filesystem::path& path) const;
  Node* node_of(int descriptor) const;
  int add_descriptor(NodePointer node);
  int failure();
  NodePointer make_node(std::string name, mode_t type);
  void settle(Node& node);
  void settle_bytes(Node& node);

  PhiloxStream random_;
  DiskFlaw flaw_ = DiskFlaw::kNone;
  NodePointer root_;
  std::map<int, OpenFile> open_;
  int next_descriptor_ = kFirstDescriptor;
  ino_t next_number_ = 1;
  std::int64_t calls_until_failure_ = -1;
  int error_number_ = 0;
  double survival_ = 0.0;  // of what was not synced
};

}  // namespace superstep::simulation
