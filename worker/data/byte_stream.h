// Reads a file from front to back, plain or gzip, and says exactly what is wrong with it.
//
// What the file is, is decided by its first two bytes, not by its name. Concatenated gzip members
// are one content, as for gzip(1). A gzip stream that is cut short, fails its checksum or is
// followed by anything else is a DataError with the byte offset in the file.
//
//   ByteStream stream(path);
//   std::array<std::byte, 4> magic;
//   if (stream.read(magic) < 4) { ... the content ends at stream.offset() ... }
//
// Memory: two buffers of 64 KiB, whatever the file claims about itself. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace superstep::worker {

class ByteStream {
 public:
  // Throws DataError when the path is missing, unreadable, or not a regular file.
  explicit ByteStream(const std::filesystem::path& path);
  ByteStream(ByteStream&&) noexcept;
  ByteStream& operator=(ByteStream&&) noexcept;
  ~ByteStream();

  // Fills `out`; returns how many bytes were there, fewer than asked for only at the end of the
  // content.
  std::int64_t read(std::span<std::byte> out);
  // Whether no byte of content follows. Reading up to here has verified every checksum.
  bool at_end();

  bool is_gzip() const;
  std::int64_t offset() const;      // bytes of (uncompressed) content read so far
  std::int64_t file_bytes() const;  // size on disk
  // No content of this file can be longer: its size, or for gzip what deflate can pack into it
  // (1,032 : 1). A length found in a header is checked against it before anything is allocated.
  std::int64_t max_content_bytes() const;
  const std::filesystem::path& path() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep::worker
