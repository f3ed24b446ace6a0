// A file in memory, read-only, paged in where it is looked at.
//
//   const MappedFile file("adult.data");
//   std::string_view bytes = file.bytes();       // valid while the file object lives
//
// Ranks of a node that look at different parts read each part of the file from disk once. The file
// must not be cut shorter while it is mapped: the system ends a process that looks behind the end.
// Thread-safe.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace superstep::worker {

class MappedFile {
 public:
  // Throws DataError when the path is missing, unreadable, or not a regular file.
  explicit MappedFile(std::filesystem::path path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  std::string_view bytes() const { return {static_cast<const char*>(memory_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  void* memory_ = nullptr;  // null: the file is empty
  std::size_t size_ = 0;
};

}  // namespace superstep::worker
