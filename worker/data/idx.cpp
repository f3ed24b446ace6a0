#include "worker/data/idx.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "worker/data/byte_stream.h"
#include "worker/data/node_bytes.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kReadIdx = "read_idx";
constexpr int kMagicBytes = 4;
constexpr int kMaxDimensions = 8;
constexpr std::uint8_t kUint8Type = 0x08;
constexpr std::size_t kFirstReadBytes = std::size_t{1} << 20;
// A count of items above this is not believed when the same bytes read backwards are small.
constexpr std::int64_t kPlausibleSize = std::int64_t{1} << 24;

struct ElementType {
  std::uint8_t code;
  std::string_view name;
};
constexpr std::array<ElementType, 6> kElementTypes = {{{0x08, "uint8"},
                                                       {0x09, "int8"},
                                                       {0x0B, "int16"},
                                                       {0x0C, "int32"},
                                                       {0x0D, "float32"},
                                                       {0x0E, "float64"}}};

std::string_view name_of_content(IdxContent content) {
  return content == IdxContent::kImages ? "images" : "labels";
}

[[noreturn]] void fail(const ByteStream& stream, std::int64_t offset, const std::string& what) {
  throw DataError(kReadIdx, stream.path().string(), offset,
                  stream.is_gzip() ? what + " (offset in the uncompressed content)" : what);
}

std::uint8_t byte_at(std::span<const std::byte> bytes, int index) {
  return std::to_integer<std::uint8_t>(bytes[static_cast<std::size_t>(index)]);
}

std::uint32_t big_endian(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    value = value << 8 | byte_at(bytes, i);
  }
  return value;
}

std::int64_t swapped(std::int64_t size) {
  return __builtin_bswap32(static_cast<std::uint32_t>(size));
}

bool looks_like_markup(std::span<const std::byte> start) {
  for (const std::byte b : start) {
    const char c = static_cast<char>(b);
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
      return c == '<';
    }
  }
  return false;
}

// nullopt on overflow.
std::optional<std::int64_t> product(std::span<const std::int64_t> sizes) {
  std::int64_t total = 1;
  for (const std::int64_t size : sizes) {
    if (__builtin_mul_overflow(total, size, &total)) {
      return std::nullopt;
    }
  }
  return total;
}

// The sizes as they would be in little-endian order, when that explains the file better.
std::string little_endian_hint(std::span<const std::int64_t> sizes, std::int64_t payload_bytes) {
  std::vector<std::int64_t> other(sizes.begin(), sizes.end());
  for (std::int64_t& size : other) {
    size = swapped(size);
  }
  const std::optional<std::int64_t> total = product(other);
  const bool explains = payload_bytes >= 0
                            ? total == payload_bytes
                            : std::all_of(other.begin(), other.end(), [](std::int64_t size) {
                                return size > 0 && size < kPlausibleSize;
                              });
  if (!explains) {
    return {};
  }
  return fmt::format("; the sizes are stored little-endian ({}), expected big-endian",
                     fmt::join(other, " x "));
}

void check_encoding(const ByteStream& stream, std::span<const std::byte> start) {
  const bool named_gzip = stream.path().extension() == ".gz";
  if (!stream.is_gzip() && looks_like_markup(start)) {
    fail(stream, 0, "got an HTML or XML page (a failed download?), expected an IDX file");
  }
  if (stream.is_gzip() && !named_gzip) {
    throw DataError(kReadIdx, stream.path().string(), 0,
                    "got gzip-compressed data (0x1f8b), expected plain IDX for a name without "
                    "\".gz\"; rename the file or unpack it");
  }
  if (!stream.is_gzip() && named_gzip && stream.file_bytes() >= 2) {
    fail(stream, 0,
         fmt::format("not gzip in spite of its name: got 0x{:02x}{:02x}, expected 0x1f8b",
                     byte_at(start, 0), byte_at(start, 1)));
  }
}

void check_element_type(const ByteStream& stream, std::uint8_t code) {
  if (code == kUint8Type) {
    return;
  }
  for (const ElementType& type : kElementTypes) {
    if (type.code == code) {
      fail(stream, 2,
           fmt::format("element type {} (0x{:02x}) is not supported: expected uint8 (0x08)",
                       type.name, code));
    }
  }
  fail(stream, 2,
       fmt::format("unknown element type: got 0x{:02x}, expected 0x08 (uint8) out of 0x08, 0x09, "
                   "0x0b, 0x0c, 0x0d, 0x0e",
                   code));
}

void check_rank(const ByteStream& stream, int rank, IdxContent content) {
  if (rank == 0 || rank > kMaxDimensions) {
    fail(stream, 3,
         fmt::format("number of dimensions out of range: got {}, expected 1 to {}", rank,
                     kMaxDimensions));
  }
  if (content == IdxContent::kLabels && rank != 1) {
    fail(stream, 3,
         fmt::format("not a label file: got {} dimensions, expected 1{}", rank,
                     rank >= 2 && rank <= 4 ? " (is this the image file?)" : ""));
  }
  if (content == IdxContent::kImages && (rank < 2 || rank > 4)) {
    fail(stream, 3,
         fmt::format("not an image file: got {} dimension{}, expected 2 to 4{}", rank,
                     rank == 1 ? "" : "s", rank == 1 ? " (is this the label file?)" : ""));
  }
}

int read_magic(ByteStream& stream, IdxContent content) {
  std::array<std::byte, kMagicBytes> magic{};
  const std::int64_t got = stream.read(magic);
  check_encoding(stream, std::span<const std::byte>(magic).first(static_cast<std::size_t>(got)));
  if (got < kMagicBytes) {
    fail(stream, got,
         fmt::format("file ends inside the magic number: got {} bytes, expected {}", got,
                     kMagicBytes));
  }
  if (byte_at(magic, 0) != 0 || byte_at(magic, 1) != 0) {
    const bool reversed = byte_at(magic, 2) == 0 && byte_at(magic, 3) == 0;
    fail(stream, 0,
         fmt::format("bad magic: got 0x{:08x}, expected 0x0000{:02x}{:02x} for {}{}",
                     big_endian(magic), kUint8Type, content == IdxContent::kImages ? 3 : 1,
                     name_of_content(content),
                     reversed ? "; the header is little-endian, expected big-endian" : ""));
  }
  check_element_type(stream, byte_at(magic, 2));
  const int rank = byte_at(magic, 3);
  check_rank(stream, rank, content);
  return rank;
}

std::vector<std::int64_t> read_sizes(ByteStream& stream, int rank) {
  std::vector<std::int64_t> sizes;
  for (int axis = 0; axis < rank; ++axis) {
    std::array<std::byte, 4> bytes{};
    const std::int64_t at = stream.offset();
    const std::int64_t got = stream.read(bytes);
    if (got < 4) {
      fail(stream, at + got,
           fmt::format("file ends inside the header: got {} of {} bytes of the size of dimension "
                       "{} of {}",
                       got, 4, axis + 1, rank));
    }
    sizes.push_back(big_endian(bytes));
    if (sizes.back() == 0) {
      fail(stream, at,
           axis == 0 ? "got 0 items, expected at least 1"
                     : fmt::format("size of dimension {} of {}: got 0, expected at least 1",
                                   axis + 1, rank));
    }
  }
  return sizes;
}

// How many bytes of values the sizes promise, after checking that this file can hold them.
std::int64_t checked_payload_bytes(const ByteStream& stream, std::span<const std::int64_t> sizes) {
  const std::optional<std::int64_t> promised = product(sizes);
  const std::int64_t plain_payload = stream.is_gzip() ? -1 : stream.file_bytes() - stream.offset();
  if (!promised) {
    fail(stream, kMagicBytes,
         fmt::format("sizes overflow: {} is more than {} bytes{}", fmt::join(sizes, " x "),
                     std::numeric_limits<std::int64_t>::max(),
                     little_endian_hint(sizes, plain_payload)));
  }
  if (stream.is_gzip() && *promised > stream.max_content_bytes()) {
    fail(stream, kMagicBytes,
         fmt::format("truncated: sizes {} promise {} bytes of values, but a gzip file of {} bytes "
                     "cannot hold them{}",
                     fmt::join(sizes, " x "), *promised, stream.file_bytes(),
                     little_endian_hint(sizes, plain_payload)));
  }
  if (!stream.is_gzip() && *promised > plain_payload) {
    fail(stream, stream.file_bytes(),
         fmt::format("truncated: got {} bytes of values, expected {} ({}){}", plain_payload,
                     *promised, fmt::join(sizes, " x "), little_endian_hint(sizes, plain_payload)));
  }
  if (!stream.is_gzip() && *promised < plain_payload) {
    fail(stream, stream.offset() + *promised,
         fmt::format("{} trailing bytes: got {} bytes of values, expected {} ({}){}",
                     plain_payload - *promised, plain_payload, *promised, fmt::join(sizes, " x "),
                     little_endian_hint(sizes, plain_payload)));
  }
  return *promised;
}

void require_end(ByteStream& stream, std::int64_t promised, std::span<const std::int64_t> sizes) {
  if (!stream.at_end()) {
    fail(stream, stream.offset(),
         fmt::format("trailing bytes: expected the end of the content after {} bytes of values "
                     "({})",
                     promised, fmt::join(sizes, " x ")));
  }
}

// Fills `out`; `before` bytes of values were read already.
void read_piece(ByteStream& stream, std::span<std::uint8_t> out, std::int64_t before,
                std::int64_t promised, std::span<const std::int64_t> sizes) {
  const std::int64_t got = stream.read(std::as_writable_bytes(out));
  if (got < static_cast<std::int64_t>(out.size())) {
    const std::int64_t all = before + got;
    fail(stream, stream.offset(),
         fmt::format("truncated: got {} bytes of values, expected {} ({}){}", all, promised,
                     fmt::join(sizes, " x "), little_endian_hint(sizes, all)));
  }
}

std::vector<std::uint8_t> read_values(ByteStream& stream, std::span<const std::int64_t> sizes) {
  const std::int64_t promised = checked_payload_bytes(stream, sizes);
  std::vector<std::uint8_t> values;
  while (values.size() < static_cast<std::size_t>(promised)) {
    const std::size_t begin = values.size();
    values.resize(
        std::min(static_cast<std::size_t>(promised), std::max(kFirstReadBytes, 2 * begin)));
    read_piece(stream, std::span<std::uint8_t>(values).subspan(begin),
               static_cast<std::int64_t>(begin), promised, sizes);
  }
  require_end(stream, promised, sizes);
  return values;
}

void copy_values(ByteStream& stream, std::span<const std::int64_t> sizes, const ByteSink& write) {
  const std::int64_t promised = checked_payload_bytes(stream, sizes);
  std::vector<std::uint8_t> piece(kFirstReadBytes);
  for (std::int64_t done = 0; done < promised;) {
    const std::int64_t length = std::min(promised - done, static_cast<std::int64_t>(piece.size()));
    const auto part = std::span<std::uint8_t>(piece).first(static_cast<std::size_t>(length));
    read_piece(stream, part, done, promised, sizes);
    write(part);
    done += length;
  }
  require_end(stream, promised, sizes);
}

// nullopt: only this process needs them, or they cannot be shared.
std::optional<ByteArray> values_of_node(const ByteStream& stream, IdxContent content,
                                        std::span<const std::int64_t> sizes) {
  if (!stream.is_gzip()) {
    return ByteArray::map(stream.path(), stream.offset(), checked_payload_bytes(stream, sizes));
  }
  if (processes_of_node() == 1) {
    return std::nullopt;
  }
  return bytes_of_node(stream.path(), [&](const ByteSink& write) {
    ByteStream again(stream.path());
    const int rank = read_magic(again, content);
    copy_values(again, read_sizes(again, rank), write);
  });
}

}  // namespace

IdxArray read_idx(const std::filesystem::path& path, IdxContent content, Storage storage) {
  ByteStream stream(path);
  const int rank = read_magic(stream, content);
  IdxArray array{.path = path, .sizes = read_sizes(stream, rank), .values = {}};
  std::optional<ByteArray> shared;
  if (storage == Storage::kNode) {
    shared = values_of_node(stream, content, array.sizes);
  }
  array.values = shared ? *std::move(shared) : ByteArray(read_values(stream, array.sizes));
  return array;
}

std::filesystem::path find_idx_file(const std::filesystem::path& directory,
                                    const std::string& stem) {
  std::error_code ignored;
  const std::filesystem::path plain = directory / stem;
  if (std::filesystem::exists(plain, ignored)) {
    return plain;
  }
  std::filesystem::path packed = plain;
  packed += ".gz";
  if (std::filesystem::exists(packed, ignored)) {
    return packed;
  }
  if (!std::filesystem::is_directory(directory, ignored)) {
    throw DataError("find_idx_file", directory.string(), -1,
                    std::filesystem::exists(directory, ignored)
                        ? "got a file, expected a directory of IDX files"
                        : "no such directory");
  }
  throw DataError("find_idx_file", plain.string(), -1, "no such file, neither plain nor with .gz");
}

void check_counts_match(const IdxArray& images, const IdxArray& labels) {
  if (images.num_items() != labels.num_items()) {
    throw DataError("check_counts_match", labels.path.string(), kMagicBytes,
                    fmt::format("counts differ: got {} labels, expected {}, one per image of {}",
                                labels.num_items(), images.num_items(), images.path.string()));
  }
}

void check_labels(const IdxArray& labels, int num_classes) {
  for (std::size_t i = 0; i < labels.values.size(); ++i) {
    if (labels.values[i] >= num_classes) {
      const auto index = static_cast<std::int64_t>(i);
      throw DataError("check_labels", labels.path.string(), labels.byte_offset(index),
                      fmt::format("label of sample {} out of range: got {}, expected 0 to {}",
                                  index, labels.values[i], num_classes - 1));
    }
  }
}

}  // namespace superstep::worker
