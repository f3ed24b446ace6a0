#include "worker/data/mapped_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace superstep::worker {

namespace {

[[noreturn]] void fail_mapping(const std::filesystem::path& path, const char* action) {
  throw DataError("MappedFile", path.string(), -1,
                  fmt::format("cannot {}: {}", action, std::generic_category().message(errno)));
}

}  // namespace

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
  const superstep::internal::FileDescriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    fail_mapping(path_, "open file");
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    fail_mapping(path_, "look at file");
  }
  if (!S_ISREG(status.st_mode)) {
    throw DataError("MappedFile", path_.string(), -1, "not a regular file");
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) {
    return;  // nothing to map, and mmap refuses it
  }
  memory_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory_ == MAP_FAILED) {
    memory_ = nullptr;
    fail_mapping(path_, "map file");
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      memory_(std::exchange(other.memory_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (memory_ != nullptr) {
    ::munmap(memory_, size_);
  }
}

}  // namespace superstep::worker
