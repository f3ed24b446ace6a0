#include "worker/data/byte_array.h"

#include <cerrno>
#include <string>
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

[[noreturn]] void fail_to_map(const std::filesystem::path& file, std::int64_t offset,
                              const std::string& what) {
  throw DataError("ByteArray::map", file.string(), offset, what);
}

}  // namespace

ByteArray::ByteArray(std::vector<std::uint8_t> bytes) {
  auto owned = std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes));
  bytes_ = *owned;
  owner_ = std::move(owned);
}

ByteArray ByteArray::map(const std::filesystem::path& file, std::int64_t offset,
                         std::int64_t size) {
  const internal::FileDescriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!opened.is_open()) {
    fail_to_map(file, -1, fmt::format("cannot open: {}", std::generic_category().message(errno)));
  }
  return map(opened.get(), file, offset, size);
}

// From the beginning of the file: a mapping begins at a page.
ByteArray ByteArray::map(int descriptor, const std::filesystem::path& file, std::int64_t offset,
                         std::int64_t size) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    fail_to_map(file, -1, fmt::format("cannot stat: {}", std::generic_category().message(errno)));
  }
  if (status.st_size < offset + size) {
    fail_to_map(file, status.st_size,
                fmt::format("the file became shorter while it was read: got {} bytes, expected {}",
                            status.st_size, offset + size));
  }
  ByteArray array;
  if (size == 0) {
    return array;
  }
  const auto length = static_cast<std::size_t>(offset + size);
  void* const data = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) {
    fail_to_map(
        file, -1,
        fmt::format("cannot map {} bytes: {}", length, std::generic_category().message(errno)));
  }
  array.owner_ =
      std::shared_ptr<const void>(data, [length](void* pages) { ::munmap(pages, length); });
  array.bytes_ = {static_cast<const std::uint8_t*>(data) + offset, static_cast<std::size_t>(size)};
  return array;
}

}  // namespace superstep::worker
