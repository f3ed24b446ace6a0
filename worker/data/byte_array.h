// Bytes that nobody changes: in memory of this process, or mapped from a file.
//
//   ByteArray own(std::vector<std::uint8_t>{1, 2, 3});
//   ByteArray mapped = ByteArray::map(file, 16, 47'040'000);   // pages are read when they are used
//
// Copies share the bytes. A mapped file must not change while it is mapped: what is written to it
// would be seen, and where it is cut short a read is a bus error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace superstep::worker {

class ByteArray {
 public:
  ByteArray() = default;
  explicit ByteArray(std::vector<std::uint8_t> bytes);

  // Bytes [offset, offset + size) of the file, read-only; processes that map one file share its
  // pages. Throws DataError when the file cannot be mapped or is shorter.
  static ByteArray map(const std::filesystem::path& file, std::int64_t offset, std::int64_t size);
  // Of an open file, which may be closed afterwards; `file` is named in messages.
  static ByteArray map(int descriptor, const std::filesystem::path& file, std::int64_t offset,
                       std::int64_t size);

  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  const std::uint8_t* data() const { return bytes_.data(); }
  const std::uint8_t* begin() const { return bytes_.data(); }
  const std::uint8_t* end() const { return bytes_.data() + bytes_.size(); }
  std::uint8_t operator[](std::size_t index) const { return bytes_[index]; }
  std::span<const std::uint8_t> span() const { return bytes_; }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const std::uint8_t> bytes_;
};

}  // namespace superstep::worker
