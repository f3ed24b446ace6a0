// Reading files whole, and making directory changes durable.
//
// Every failure is a DataError that names the path, the operation and the system's reason. A file
// that cannot be read is bad data (exit code 3); a failed write is an ordinary failure (exit code
// 1).
//
//   std::string text = read_text_file(config_path, 1 << 20);
//   rename_directory(run / "step-200.tmp", run / "step-200");     // visible whole or not at all
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace superstep {

// The whole file. A file larger than `max_bytes` is refused before anything is read.
std::vector<std::byte> read_file(const std::filesystem::path& path, std::int64_t max_bytes);
std::string read_text_file(const std::filesystem::path& path, std::int64_t max_bytes);

enum class PathKind : std::uint8_t { kMissing, kFile, kDirectory, kOther, kUnknown };

struct PathStatus {
  PathKind kind = PathKind::kUnknown;
  // Why nothing can be read there: "no such file or directory", or the system's reason when it does
  // not tell (no permission on a parent, a name that is too long). Empty when something is there.
  std::string problem;

  bool exists() const { return problem.empty(); }
};

// What a path leads to, links followed. Never throws.
PathStatus look_at(const std::filesystem::path& path);

// Makes names that were created, renamed or removed in the directory survive a loss of power.
void fsync_directory(const std::filesystem::path& directory);

// The same for one name, in the directory that holds it. Does nothing where that may be written to
// but not be read, since what cannot be opened cannot be synced.
void fsync_name(const std::filesystem::path& path);

// Makes the directory and what is missing above it; every new name survives a loss of power.
void make_directories(const std::filesystem::path& directory);

// Renames a directory and makes the change durable. The target must not exist, or be an empty
// directory. The files inside must have been synced before (AtomicFile does).
void rename_directory(const std::filesystem::path& from, const std::filesystem::path& to);

// Free bytes for this user on the file system that holds `path` (or its nearest existing parent).
std::int64_t free_bytes(const std::filesystem::path& path);

namespace internal {
// Throws DataError: "cannot <action>: <reason of error_number>"; for a full disk with the bytes
// needed (when known, else -1) and the bytes free.
[[noreturn]] void throw_write_error(std::string_view where, const std::filesystem::path& path,
                                    std::string_view action, int error_number,
                                    std::int64_t offset = -1, std::int64_t needed_bytes = -1);
}  // namespace internal

}  // namespace superstep
