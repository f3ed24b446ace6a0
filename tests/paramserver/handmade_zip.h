// Zip archives and .npy files put together byte by byte, independently of the code under test, so
// that tests can also make the ones that no tool would write.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::testing {

// The CRC-32 of zip (reflected polynomial 0xEDB88320), bit by bit.
inline std::uint32_t crc32_of(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
    }
  }
  return ~crc;
}

// `count` bytes of a number, the lowest first.
inline std::string little_endian(std::uint64_t number, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    bytes += static_cast<char>(number >> (8 * i) & 0xFF);
  }
  return bytes;
}

inline std::string npy_file(std::string_view dictionary, std::string_view data, int major = 1) {
  const std::string text = std::string(dictionary) + "\n";
  return std::string("\x93NUMPY") + static_cast<char>(major) + '\0' +
         little_endian(text.size(), major == 1 ? 2 : 4) + text + std::string(data);
}

// Deflate without compression: stored blocks of at most 65,535 bytes.
inline std::string deflated(std::string_view bytes) {
  std::string stream;
  do {
    const std::string_view block = bytes.substr(0, 65535);
    bytes.remove_prefix(block.size());
    stream += bytes.empty() ? '\1' : '\0';
    stream += little_endian(block.size(), 2) + little_endian(~block.size(), 2);
    stream += block;
  } while (!bytes.empty());
  return stream;
}

struct ZipMemberSpec {
  std::string name;
  std::string stored;  // as it lies in the archive
  std::uint32_t crc = 0;
  std::uint32_t size = 0;    // uncompressed
  std::uint16_t method = 0;  // 8: deflated
  std::uint16_t flags = 0;   // 1: encrypted
};

inline ZipMemberSpec zip_member(std::string name, const std::string& content) {
  return {.name = std::move(name),
          .stored = content,
          .crc = crc32_of(content),
          .size = static_cast<std::uint32_t>(content.size()),
          .method = 0,
          .flags = 0};
}

inline std::string zip_file(const std::vector<ZipMemberSpec>& members) {
  std::string file;
  std::string directory;
  for (const ZipMemberSpec& member : members) {
    const std::string common =
        little_endian(20, 2) + little_endian(member.flags, 2) + little_endian(member.method, 2) +
        little_endian(0, 2) + little_endian(0x21, 2) + little_endian(member.crc, 4) +
        little_endian(member.stored.size(), 4) + little_endian(member.size, 4) +
        little_endian(member.name.size(), 2) + little_endian(0, 2);
    directory += "PK\1\2" + little_endian(20, 2) + common + little_endian(0, 6) +
                 little_endian(0, 4) + little_endian(file.size(), 4) + member.name;
    file += "PK\3\4" + common + member.name + member.stored;
  }
  const std::string count = little_endian(members.size(), 2);
  const std::size_t begin = file.size();
  return file + directory + "PK\5\6" + little_endian(0, 4) + count + count +
         little_endian(directory.size(), 4) + little_endian(begin, 4) + little_endian(0, 2);
}

}  // namespace superstep::testing
