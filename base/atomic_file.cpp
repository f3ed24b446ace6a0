#include "base/atomic_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTemporaryPrefix = ".tmp-";
// One write() transfers at most 0x7ffff000 bytes on Linux; smaller parts keep error offsets useful.
constexpr std::size_t kMostBytesPerWrite = std::size_t{1} << 28;

std::uint64_t random_suffix(const fs::path& path) {
  std::uint64_t suffix = 0;
  ssize_t count = -1;
  do {
    count = ::getrandom(&suffix, sizeof suffix, 0);
  } while (count < 0 && errno == EINTR);
  if (count != static_cast<ssize_t>(sizeof suffix)) {
    internal::throw_write_error("AtomicFile", path, "draw a temporary name", errno);
  }
  return suffix;
}

// The kernel has refused the flag, not the rename: file systems such as NFS do not know it.
bool lacks_noreplace(int error_number) {
  return error_number == EINVAL || error_number == ENOSYS;
}

}  // namespace

AtomicFile::AtomicFile(fs::path path, IfExists if_exists, std::int64_t expected_bytes)
    : path_(std::move(path)), if_exists_(if_exists) {
  if (path_.filename().empty()) {
    throw DataError("AtomicFile", path_.native(), -1, "not a file name", ExitCode::kFailure);
  }
  create_temporary();
  try {
    reserve(expected_bytes);
  } catch (...) {
    discard();
    throw;
  }
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::move(other.file_)),
      position_(other.position_),
      if_exists_(other.if_exists_) {}

AtomicFile::~AtomicFile() {
  discard();
}

void AtomicFile::create_temporary() {
  do {
    // The target's name is cut so that the whole stays within 255 bytes.
    const std::string name = fmt::format("{}{:016x}-{}", kTemporaryPrefix, random_suffix(path_),
                                         path_.filename().native().substr(0, 200));
    temporary_ = path_.parent_path() / name;
    file_ = internal::FileDescriptor(
        ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  } while (!file_.is_open() && (errno == EEXIST || errno == EINTR));
  if (!file_.is_open()) {
    const int error_number = errno;
    temporary_.clear();
    internal::throw_write_error("AtomicFile", path_, "create a file beside it", error_number);
  }
}

void AtomicFile::reserve(std::int64_t bytes) {
  if (bytes <= 0) {
    return;
  }
  int status = 0;
  do {
    status = ::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, 0, bytes) == 0 ? 0 : errno;
  } while (status == EINTR);
  // A file system without reservation finds a full disk while writing.
  if (status != 0 && status != EOPNOTSUPP && status != ENOSYS) {
    internal::throw_write_error("AtomicFile", path_, "reserve space", status, -1, bytes);
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  SUPERSTEP_CHECK(file_.is_open(), "write after commit", path_.native());
  while (!bytes.empty()) {
    const ssize_t count =
        ::write(file_.get(), bytes.data(), std::min(bytes.size(), kMostBytesPerWrite));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      internal::throw_write_error("AtomicFile::write", path_, "write", count < 0 ? errno : EIO,
                                  position_, static_cast<std::int64_t>(bytes.size()));
    }
    position_ += count;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  SUPERSTEP_CHECK(file_.is_open(), "commit twice", path_.native());
  if (::fsync(file_.get()) != 0) {
    internal::throw_write_error("AtomicFile::commit", path_, "sync", errno, -1, position_);
  }
  // close() is where NFS reports what it could not store. EINTR has closed the file on Linux.
  if (::close(file_.release()) != 0 && errno != EINTR) {
    internal::throw_write_error("AtomicFile::commit", path_, "close", errno, -1, position_);
  }
  move_into_place();
  temporary_.clear();
  const fs::path parent = path_.parent_path();
  fsync_directory(parent.empty() ? fs::path(".") : parent);
}

void AtomicFile::move_into_place() {
  int status = 0;
  if (if_exists_ == IfExists::kReplace) {
    status = std::rename(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
  } else {
    status =
        ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == 0
            ? 0
            : errno;
    if (lacks_noreplace(status)) {
      status = ::link(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
      if (status == 0) {
        ::unlink(temporary_.c_str());
      }
    }
  }
  if (status != 0) {
    internal::throw_write_error("AtomicFile::commit", path_, "move the file into place", status);
  }
}

void AtomicFile::discard() noexcept {
  file_.reset();
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
    temporary_.clear();
  }
}

void write_file_atomically(const fs::path& path, std::span<const std::byte> bytes,
                           IfExists if_exists) {
  AtomicFile file(path, if_exists, static_cast<std::int64_t>(bytes.size()));
  file.write(bytes);
  file.commit();
}

void write_file_atomically(const fs::path& path, std::string_view text, IfExists if_exists) {
  write_file_atomically(path, std::as_bytes(std::span(text.data(), text.size())), if_exists);
}

bool is_temporary_name(std::string_view file_name) {
  return file_name.starts_with(kTemporaryPrefix);
}

}  // namespace superstep
