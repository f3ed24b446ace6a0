#include "bsp/shared_memory.h"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <ctime>
#include <exception>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/env.h"
#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/text.h"

namespace superstep::bsp::internal {

namespace {

constexpr const char* kSharedDirectory = "/dev/shm";

// Below, rounding up to large pages would waste more than it saves.
constexpr std::int64_t kLargePagesFrom = std::int64_t{8} << 20;

std::string error_text(int error) {
  return std::generic_category().message(error);
}

[[noreturn]] void fail(const std::string& what, int error) {
  throw CommunicationError("SharedBytes", fmt::format("{}: {}", what, error_text(error)));
}

std::int64_t free_shared_bytes() {
  struct statvfs status {};
  if (statvfs(kSharedDirectory, &status) != 0) {
    fail(fmt::format("cannot ask {} for its free space", kSharedDirectory), errno);
  }
  return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

[[noreturn]] void fail_for_space(std::int64_t needed, std::int64_t free) {
  throw InvalidArgument(
      "SharedBytes",
      fmt::format("too little shared memory in {}: got {} bytes free ({}), needed {} bytes ({}); "
                  "enlarge it (mount -o "
                  "remount,size=..., or --shm-size of the container) or run the ranks of a node as "
                  "lanes of one process",
                  kSharedDirectory, free, human_bytes(free), needed, human_bytes(needed)));
}

// Asking first spares filling all free memory only to find that it is not enough; the reservation
// itself settles races with others.
void reserve(int descriptor, std::int64_t num_bytes) {
  const std::int64_t free = free_shared_bytes();
  if (num_bytes > free) {
    fail_for_space(num_bytes, free);
  }
  int error = EINTR;
  while (error == EINTR) {
    error = posix_fallocate(descriptor, 0, num_bytes);
  }
  if (error == ENOSPC) {
    fail_for_space(num_bytes, free_shared_bytes());
  }
  if (error != 0) {
    fail(fmt::format("cannot reserve {} bytes in {}", num_bytes, kSharedDirectory), error);
  }
}

bool is_stale(const std::filesystem::path& path) {
  constexpr std::time_t kMinimumAge = 60;
  const std::optional<pid_t> owner = owner_of_shared(path.filename().native());
  struct stat status {};
  return owner && ::lstat(path.c_str(), &status) == 0 && status.st_uid == ::getuid() &&
         S_ISREG(status.st_mode) && std::time(nullptr) - status.st_mtime > kMinimumAge &&
         ::kill(*owner, 0) != 0 && errno == ESRCH;
}

std::byte* map(int descriptor, std::int64_t num_bytes) {
  // Threads share private memory too, and only that may have large pages without further ado.
  const int flags = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* data = mmap(nullptr, static_cast<std::size_t>(num_bytes), PROT_READ | PROT_WRITE, flags,
                    descriptor, 0);
  if (data == MAP_FAILED) {
    throw InvalidArgument(
        "SharedBytes", fmt::format("cannot map shared memory: needed {} bytes ({}): {}", num_bytes,
                                   human_bytes(num_bytes), error_text(errno)));
  }
  if (descriptor < 0 && num_bytes >= kLargePagesFrom) {
    // Advice: refused where there are none.
    static_cast<void>(madvise(data, static_cast<std::size_t>(num_bytes), MADV_HUGEPAGE));
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

SharedMapping::SharedMapping(SharedMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SharedMapping& SharedMapping::operator=(SharedMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMapping::~SharedMapping() {
  if (data_ != nullptr) {
    munmap(data_, static_cast<std::size_t>(size_));
  }
}

SharedMapping SharedMapping::anonymous(std::int64_t num_bytes) {
  return num_bytes == 0 ? SharedMapping() : SharedMapping(map(-1, num_bytes), num_bytes);
}

SharedMapping SharedMapping::create(const std::string& name, std::int64_t num_bytes) {
  if (num_bytes == 0) {
    return {};
  }
  const superstep::internal::FileDescriptor file(
      shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (!file.is_open()) {
    fail(fmt::format("cannot create shared memory {}", name), errno);
  }
  try {
    reserve(file.get(), num_bytes);
    return {map(file.get(), num_bytes), num_bytes};
  } catch (...) {
    unlink_shared(name);
    throw;
  }
}

SharedMapping SharedMapping::open(const std::string& name, std::int64_t num_bytes) {
  if (num_bytes == 0) {
    return {};
  }
  const superstep::internal::FileDescriptor file(shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0));
  if (!file.is_open()) {
    fail(fmt::format("cannot open shared memory {}", name), errno);
  }
  return {map(file.get(), num_bytes), num_bytes};
}

std::string unique_shared_name() {
  static std::atomic<std::uint64_t> next{0};
  const std::string job = environment_variable("PMIX_NAMESPACE").value_or("alone");
  std::string name = fmt::format("/superstep-{}-{}-{}", job, getpid(), next.fetch_add(1));
  for (char& c : name) {
    if (c == '/' && &c != name.data()) {
      c = '-';
    }
  }
  return name;
}

std::optional<pid_t> owner_of_shared(std::string_view name) {
  constexpr std::string_view kPrefix = "superstep-";
  const std::size_t number = name.rfind('-');
  if (!name.starts_with(kPrefix) || number == std::string_view::npos || number == 0) {
    return std::nullopt;
  }
  const std::size_t process = name.rfind('-', number - 1);
  if (process == std::string_view::npos || process < kPrefix.size()) {
    return std::nullopt;
  }
  pid_t pid = 0;
  const char* end = name.data() + number;
  const auto [stop, error] = std::from_chars(name.data() + process + 1, end, pid);
  return error == std::errc() && stop == end && pid > 0 ? std::optional(pid) : std::nullopt;
}

int remove_stale_shared() noexcept {
  int removed = 0;
  try {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(kSharedDirectory, error), end;
         !error && entry != end; entry.increment(error)) {
      removed += is_stale(entry->path()) && ::unlink(entry->path().c_str()) == 0 ? 1 : 0;
    }
  } catch (const std::exception&) {
    // Tidying up is no reason to fail.
  }
  return removed;
}

void unlink_shared(const std::string& name) noexcept {
  if (!name.empty()) {
    shm_unlink(name.c_str());
  }
}

}  // namespace superstep::bsp::internal
