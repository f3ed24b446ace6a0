// Files that appear whole or not at all.
//
// The bytes go to a new file beside the target (O_EXCL, name starting with ".tmp-"), which is
// synced and renamed over the target, and the directory is synced. A reader, or a machine that
// loses power, sees the old file or the new one. An AtomicFile that is destroyed before commit()
// leaves nothing behind; a process that is killed leaves a temporary that is_temporary_name()
// recognises.
//
//   write_file_atomically(run / "summary.json", text);
//
//   AtomicFile file(directory / "shard-0.bin");
//   for (std::span<const std::byte> part : parts) file.write(part);
//   file.commit();
//
// Errors are DataErrors with the system's reason, and the bytes needed and free on a full disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "base/file.h"
#include "base/file_descriptor.h"

namespace superstep {

enum class IfExists : std::uint8_t {
  kReplace,  // atomically
  kRefuse,   // DataError at commit; the existing file is untouched
};

class AtomicFile {
 public:
  // Creates the temporary. The directory must exist. `expected_bytes`, when known, is reserved at
  // once, so that a full disk is found before anything is written.
  explicit AtomicFile(std::filesystem::path path, IfExists if_exists = IfExists::kReplace,
                      std::int64_t expected_bytes = 0);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  // Sync, rename, sync of the directory. Once; afterwards the object is empty.
  void commit();

  std::int64_t position() const { return position_; }  // bytes written so far
  const std::filesystem::path& path() const { return path_; }

 private:
  void create_temporary();
  void reserve(std::int64_t bytes);
  void move_into_place();
  void discard() noexcept;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once committed or discarded
  internal::FileDescriptor file_;
  std::int64_t position_ = 0;
  IfExists if_exists_;
};

void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes,
                           IfExists if_exists = IfExists::kReplace);
void write_file_atomically(const std::filesystem::path& path, std::string_view text,
                           IfExists if_exists = IfExists::kReplace);

// Whether a file name (without its directory) is that of an unfinished AtomicFile.
bool is_temporary_name(std::string_view file_name);

}  // namespace superstep
