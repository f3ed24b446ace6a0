#include "base/file.h"

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/text.h"

namespace superstep {

namespace {

namespace fs = std::filesystem;

std::string reason(int error_number) {
  return std::system_category().message(error_number);
}

[[noreturn]] void throw_read_error(const fs::path& path, std::string_view action,
                                   int error_number) {
  throw DataError("read_file", path.native(), -1,
                  fmt::format("cannot {}: {}", action, reason(error_number)));
}

fs::path parent_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// Opens a regular file and checks its size; `size` receives it.
internal::FileDescriptor open_for_reading(const fs::path& path, std::int64_t max_bytes,
                                          std::int64_t& size) {
  internal::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    throw_read_error(path, "open", errno);
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    throw_read_error(path, "stat", errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw DataError("read_file", path.native(), -1, "not a regular file");
  }
  size = status.st_size;
  if (size > max_bytes) {
    throw DataError(
        "read_file", path.native(), -1,
        fmt::format("file too large: got {} bytes, expected at most {}", size, max_bytes));
  }
  return file;
}

// Container: std::string or std::vector<std::byte>.
template <typename Container>
Container read_whole(const fs::path& path, std::int64_t max_bytes) {
  std::int64_t size = 0;
  const internal::FileDescriptor file = open_for_reading(path, max_bytes, size);
  Container content(static_cast<std::size_t>(size), typename Container::value_type{});
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t count = ::read(file.get(), content.data() + done, content.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      throw_read_error(path, "read", errno);
    }
    if (count == 0) {
      throw DataError("read_file", path.native(), static_cast<std::int64_t>(done),
                      fmt::format("file ends early: got {} bytes, expected {}", done, size));
    }
    done += static_cast<std::size_t>(count);
  }
  return content;
}

}  // namespace

namespace internal {

void throw_write_error(std::string_view where, const fs::path& path, std::string_view action,
                       int error_number, std::int64_t offset, std::int64_t needed_bytes) {
  std::string what = fmt::format("cannot {}: {}", action, reason(error_number));
  if (error_number == ENOSPC || error_number == EDQUOT) {
    if (needed_bytes >= 0) {
      what += fmt::format("; needed {}", human_bytes(needed_bytes));
    }
    what += fmt::format("; free {}", human_bytes(free_bytes(path)));
  }
  throw DataError(where, path.native(), offset, what, ExitCode::kFailure);
}

}  // namespace internal

std::vector<std::byte> read_file(const fs::path& path, std::int64_t max_bytes) {
  return read_whole<std::vector<std::byte>>(path, max_bytes);
}

std::string read_text_file(const fs::path& path, std::int64_t max_bytes) {
  return read_whole<std::string>(path, max_bytes);
}

PathStatus look_at(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  switch (status.type()) {
    case fs::file_type::not_found:
      return {PathKind::kMissing, "no such file or directory"};
    case fs::file_type::none:
      return {PathKind::kUnknown, fmt::format("cannot be looked at: {}", error.message())};
    case fs::file_type::directory:
      return {PathKind::kDirectory, {}};
    case fs::file_type::regular:
      return {PathKind::kFile, {}};
    default:
      return {PathKind::kOther, {}};
  }
}

void fsync_directory(const fs::path& directory) {
  const internal::FileDescriptor handle(
      ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!handle.is_open()) {
    internal::throw_write_error("fsync_directory", directory, "open the directory", errno);
  }
  // EINVAL: the file system cannot sync directories; it then orders names by itself or not at all.
  if (::fsync(handle.get()) != 0 && errno != EINVAL) {
    internal::throw_write_error("fsync_directory", directory, "sync the directory", errno);
  }
}

void fsync_name(const fs::path& path) {
  const fs::path holder = parent_of(path.has_filename() ? path : path.parent_path());
  if (::access(holder.c_str(), R_OK) == 0 || errno != EACCES) {
    fsync_directory(holder);
  }
}

void make_directories(const fs::path& directory) {
  std::error_code error;
  if (directory.empty() || fs::is_directory(directory, error)) {
    return;
  }
  make_directories(directory.parent_path());
  fs::create_directory(directory, error);  // no error when somebody else has made it meanwhile
  if (error) {
    internal::throw_write_error("make_directories", directory, "create the directory",
                                error.value());
  }
  fsync_name(directory);
}

void rename_directory(const fs::path& from, const fs::path& to) {
  struct stat status {};
  if (::stat(from.c_str(), &status) != 0) {
    internal::throw_write_error("rename_directory", from, "find the directory", errno);
  }
  if (!S_ISDIR(status.st_mode)) {
    internal::throw_write_error("rename_directory", from, "rename as a directory", ENOTDIR);
  }
  fsync_directory(from);
  if (::rename(from.c_str(), to.c_str()) != 0) {
    internal::throw_write_error("rename_directory", from, fmt::format("rename to {}", to.native()),
                                errno);
  }
  fsync_directory(parent_of(to));
  if (parent_of(from) != parent_of(to)) {
    fsync_directory(parent_of(from));
  }
}

std::int64_t free_bytes(const fs::path& path) {
  struct statvfs status {};
  fs::path existing = path;
  while (::statvfs(existing.c_str(), &status) != 0) {
    if (errno != ENOENT || existing == parent_of(existing)) {
      throw DataError("free_bytes", path.native(), -1,
                      fmt::format("cannot ask the file system: {}", reason(errno)),
                      ExitCode::kFailure);
    }
    existing = parent_of(existing);
  }
  return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

}  // namespace superstep
