#include "worker/data/node_bytes.h"

#include <cerrno>
#include <cstddef>
#include <ctime>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/file_descriptor.h"
#include "base/hash.h"

namespace superstep::worker {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNamePrefix = "superstep-data-";
// The name of a file lives while a job is set up, which takes seconds.
constexpr std::time_t kStaleAge = 600;

// Stands behind the bytes once all of them are there.
struct Trailer {
  std::uint64_t magic = 0;
  std::int64_t payload_bytes = 0;
  std::int64_t processes = 0;  // that have mapped the file
};
constexpr std::uint64_t kTrailerMagic = 0x31656c6962796e73;

struct CannotWrite {};

bool write_whole(int file, std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(file, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno != EINTR) {
      return false;
    }
    if (written > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      offset += written;
    }
  }
  return true;
}

bool write_trailer(int file, const Trailer& trailer) {
  return write_whole(file, trailer.payload_bytes, std::as_bytes(std::span(&trailer, 1)));
}

// nullopt: the file is new, or whoever made it died before it was whole.
std::optional<Trailer> read_trailer(int file) {
  struct stat status {};
  Trailer trailer;
  const auto size = static_cast<std::int64_t>(sizeof(trailer));
  if (::fstat(file, &status) != 0 || status.st_size < size ||
      ::pread(file, &trailer, sizeof(trailer), status.st_size - size) != size ||
      trailer.magic != kTrailerMagic || trailer.payload_bytes != status.st_size - size) {
    return std::nullopt;
  }
  return trailer;
}

bool is_own_file(int file) {
  struct stat status {};
  return ::fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::getuid();
}

// Of one process at a time. A mapping holds the open file, and with it a lock that nobody gave
// back.
class FileLock {
 public:
  explicit FileLock(int file) : file_(file) {
    int result = -1;
    do {
      result = ::flock(file_, LOCK_EX);
    } while (result != 0 && errno == EINTR);
    is_held_ = result == 0;
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock() {
    if (is_held_) {
      ::flock(file_, LOCK_UN);
    }
  }
  bool is_held() const { return is_held_; }

 private:
  int file_;
  bool is_held_ = false;
};

void remove_stale(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    struct stat status {};
    if (entry->path().filename().native().starts_with(kNamePrefix) &&
        ::lstat(entry->path().c_str(), &status) == 0 && status.st_uid == ::getuid() &&
        std::time(nullptr) - status.st_mtime > kStaleAge) {
      ::unlink(entry->path().c_str());
    }
  }
}

// Empty where there is no such source or no directory for temporary files.
fs::path path_for(const fs::path& source) {
  struct stat status {};
  std::error_code error;
  const fs::path directory = fs::temp_directory_path(error);
  if (error || ::stat(source.c_str(), &status) != 0) {
    return {};
  }
  const std::string job = environment_variable("PMIX_NAMESPACE").value_or("alone");
  const Hash128 identity =
      hash_text(fmt::format("{} {} {} {} {} {}", job, status.st_dev, status.st_ino, status.st_size,
                            status.st_mtim.tv_sec, status.st_mtim.tv_nsec));
  return directory / fmt::format("{}{:016x}{:016x}", kNamePrefix, identity.high, identity.low);
}

// nullopt when there is no space for it.
std::optional<Trailer> fill_file(int file, const std::function<void(const ByteSink&)>& make) {
  Trailer trailer{.magic = kTrailerMagic};
  try {
    make([&](std::span<const std::uint8_t> bytes) {
      if (!write_whole(file, trailer.payload_bytes, std::as_bytes(bytes))) {
        throw CannotWrite();
      }
      trailer.payload_bytes += static_cast<std::int64_t>(bytes.size());
    });
  } catch (const CannotWrite&) {
    return std::nullopt;
  }
  return write_trailer(file, trailer) ? std::optional(trailer) : std::nullopt;
}

// Removes the name unless told that it is still needed.
class NameGuard {
 public:
  explicit NameGuard(const fs::path& path) : path_(path) {}
  NameGuard(const NameGuard&) = delete;
  NameGuard& operator=(const NameGuard&) = delete;
  ~NameGuard() {
    if (!is_needed_) {
      ::unlink(path_.c_str());
    }
  }
  void keep() { is_needed_ = true; }

 private:
  const fs::path& path_;
  bool is_needed_ = false;
};

}  // namespace

std::int64_t processes_of_node() {
  return environment_integer("OMPI_COMM_WORLD_LOCAL_SIZE").value_or(1);
}

std::optional<ByteArray> bytes_of_node(const fs::path& source,
                                       const std::function<void(const ByteSink&)>& make) {
  const fs::path path = path_for(source);
  if (path.empty()) {
    return std::nullopt;
  }
  remove_stale(path.parent_path());
  const internal::FileDescriptor file(
      ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (!file.is_open() || !is_own_file(file.get())) {
    return std::nullopt;
  }
  const FileLock lock(file.get());
  if (!lock.is_held()) {
    return std::nullopt;
  }
  NameGuard name(path);
  std::optional<Trailer> trailer = read_trailer(file.get());
  if (!trailer) {
    if (::ftruncate(file.get(), 0) != 0) {
      return std::nullopt;
    }
    trailer = fill_file(file.get(), make);
  }
  if (!trailer) {
    return std::nullopt;
  }
  ByteArray bytes = ByteArray::map(file.get(), path, 0, trailer->payload_bytes);
  ++trailer->processes;
  if (trailer->processes < processes_of_node() && write_trailer(file.get(), *trailer)) {
    name.keep();
  }
  return bytes;
}

}  // namespace superstep::worker
