#include "paramserver/checkpoint_files.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kUnfinishedSuffix = ".tmp";
constexpr std::string_view kReadWhere = "Checkpoint";
constexpr std::string_view kWriteWhere = "write_checkpoint";
constexpr auto kElementBytes = static_cast<std::int64_t>(sizeof(float));
// Readable by whoever the user's umask lets.
constexpr mode_t kFileMode = 0666;

[[noreturn]] void throw_unreadable(const fs::path& path, std::string_view what) {
  throw DataError(kReadWhere, path.native(), -1, what, ExitCode::kBadCheckpoint);
}

[[noreturn]] void throw_unreadable(const fs::path& path, std::string_view action,
                                   int error_number) {
  throw_unreadable(
      path, fmt::format("cannot {}: {}", action, std::system_category().message(error_number)));
}

}  // namespace

std::string step_directory_name(std::int64_t superstep) {
  return fmt::format("{}{:08d}", kStepPrefix, superstep);
}

std::optional<std::int64_t> parse_step_directory_name(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) {
    return std::nullopt;
  }
  const std::string_view digits = name.substr(kStepPrefix.size());
  std::int64_t superstep = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), superstep);
  if (error != std::errc() || superstep < 0 || step_directory_name(superstep) != name) {
    return std::nullopt;
  }
  return superstep;
}

bool is_unfinished_step_name(std::string_view name) {
  return name.ends_with(kUnfinishedSuffix) &&
         parse_step_directory_name(name.substr(0, name.size() - kUnfinishedSuffix.size()))
             .has_value();
}

bool is_array_name(std::string_view name) {
  constexpr std::size_t kMostCharacters = 64;  // leaves room in a file name for the index
  return !name.empty() && name.size() <= kMostCharacters &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

std::string array_file_name(std::string_view array, std::int64_t file_index) {
  return fmt::format("{}-{:05d}.bin", array, file_index);
}

std::int64_t num_blocks(std::int64_t num_elements) {
  return (num_elements + kBlockElements - 1) / kBlockElements;
}

std::int64_t num_files(std::int64_t num_elements, std::int64_t file_elements) {
  return num_elements / file_elements + (num_elements % file_elements != 0 ? 1 : 0);
}

std::int64_t file_bytes(std::int64_t num_elements, std::int64_t file_elements,
                        std::int64_t file_index) {
  return std::min(file_elements, num_elements - file_index * file_elements) * kElementBytes;
}

std::vector<FilePiece> file_pieces(ElementRange range, std::int64_t file_elements) {
  std::vector<FilePiece> pieces;
  std::int64_t begin = range.begin;
  while (begin < range.end) {
    const std::int64_t file_index = begin / file_elements;
    const std::int64_t within = begin - file_index * file_elements;
    const std::int64_t count = std::min(range.end - begin, file_elements - within);
    pieces.push_back({.file_index = file_index,
                      .offset = within * kElementBytes,
                      .first_element = begin - range.begin,
                      .num_elements = count});
    begin += count;
  }
  return pieces;
}

internal::FileDescriptor open_checkpoint_file(const fs::path& path) {
  // O_NONBLOCK: a pipe in the place of a file must not block the open.
  internal::FileDescriptor file(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.is_open()) {
    if (errno == ELOOP) {
      throw_unreadable(path, "is a symbolic link, expected a regular file");
    }
    throw_unreadable(path, "open", errno);
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    throw_unreadable(path, "stat", errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw_unreadable(path, "is not a regular file");
  }
  return file;
}

std::int64_t checkpoint_file_size(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    throw_unreadable(path, "stat", errno);
  }
  if (S_ISLNK(status.st_mode)) {
    throw_unreadable(path, "is a symbolic link, expected a regular file");
  }
  if (!S_ISREG(status.st_mode)) {
    throw_unreadable(path, "is not a regular file");
  }
  return status.st_size;
}

void read_at(const internal::FileDescriptor& file, const fs::path& path, std::int64_t offset,
             std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pread(file.get(), bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      throw_unreadable(path, fmt::format("read at byte {}", offset), errno);
    }
    if (count == 0) {
      throw DataError(kReadWhere, path.native(), offset,
                      fmt::format("file ends early: {} more bytes expected", bytes.size()),
                      ExitCode::kBadCheckpoint);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void create_reserved_file(const fs::path& path, std::int64_t num_bytes) {
  const internal::FileDescriptor file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode));
  if (!file.is_open()) {
    internal::throw_write_error(kWriteWhere, path, "create", errno);
  }
  int status = 0;
  do {
    status = ::posix_fallocate(file.get(), 0, num_bytes);
  } while (status == EINTR);
  if (status == EOPNOTSUPP || status == EINVAL) {  // a file system that cannot reserve space
    status = ::ftruncate(file.get(), num_bytes) == 0 ? 0 : errno;
  }
  if (status != 0) {
    internal::throw_write_error(kWriteWhere, path, "reserve space", status, -1, num_bytes);
  }
}

internal::FileDescriptor open_created_file(const fs::path& path) {
  internal::FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file.is_open()) {
    const int error_number = errno;
    internal::throw_write_error(
        kWriteWhere, path,
        error_number == ENOENT ? "open what rank 0 created (is the directory shared by all nodes?)"
                               : "open",
        error_number);
  }
  return file;
}

void write_at(const internal::FileDescriptor& file, const fs::path& path, std::int64_t offset,
              std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(file.get(), bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      internal::throw_write_error(kWriteWhere, path, "write", errno, offset,
                                  static_cast<std::int64_t>(bytes.size()));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void sync_file(const internal::FileDescriptor& file, const fs::path& path) {
  if (::fsync(file.get()) != 0) {
    internal::throw_write_error(kWriteWhere, path, "sync", errno);
  }
}

void forget_cached(const internal::FileDescriptor& file, std::int64_t offset,
                   std::int64_t num_bytes) {
  ::posix_fadvise(file.get(), offset, num_bytes, POSIX_FADV_DONTNEED);
}

void set_aside(const fs::path& path) {
  fs::path aside = path;
  aside += ".damaged";
  for (int i = 2; fs::exists(fs::symlink_status(aside)); ++i) {
    aside = path;
    aside += fmt::format(".damaged-{}", i);
  }
  std::error_code error;
  fs::rename(path, aside, error);
  if (error) {
    internal::throw_write_error("set_aside", path, "rename", error.value());
  }
}

}  // namespace superstep::paramserver
