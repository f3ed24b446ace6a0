#include "paramserver/npy_header.h"

#include <charconv>
#include <cstring>
#include <optional>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/error.h"

namespace superstep::paramserver {

namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::int64_t kVersionOffset = 6;
constexpr std::int64_t kLengthOffset = 8;
constexpr std::int64_t kPrefixBytesV1 = 10;  // with a length of two bytes
constexpr std::int64_t kPrefixBytesV2 = 12;  // with a length of four bytes

[[noreturn]] void fail(std::string_view path, std::int64_t offset, std::string_view what) {
  throw DataError("NpyHeader", path, offset, what);
}

std::int64_t prefix_bytes(std::span<const std::byte> prefix) {
  return static_cast<int>(prefix[kVersionOffset]) == 1 ? kPrefixBytesV1 : kPrefixBytesV2;
}

// Reads {'key': value, ...} from the front of a text, one token at a time.
class LiteralParser {
 public:
  LiteralParser(std::string_view text, std::string_view path, std::int64_t offset)
      : text_(text), path_(path), offset_(offset) {}

  NpyHeader parse() {
    expect('{');
    while (!accept('}')) {
      parse_item();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (position_ != text_.size()) {
      fail_here("text after the dictionary");
    }
    if (!type_ || !has_order_ || !shape_) {
      fail_here("dictionary lacks one of 'descr', 'fortran_order', 'shape'");
    }
    return {.type = *type_, .shape = *shape_, .header_bytes = 0};
  }

 private:
  [[noreturn]] void fail_here(std::string_view what) const {
    fail(path_, offset_ + static_cast<std::int64_t>(position_),
         fmt::format("bad header: {}", what));
  }

  void skip_blanks() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n')) {
      ++position_;
    }
  }

  bool accept(char character) {
    skip_blanks();
    if (position_ < text_.size() && text_[position_] == character) {
      ++position_;
      return true;
    }
    return false;
  }

  void expect(char character) {
    if (!accept(character)) {
      fail_here(fmt::format("expected '{}'", character));
    }
  }

  std::string_view parse_string() {
    skip_blanks();
    const char quote = position_ < text_.size() ? text_[position_] : '\0';
    if (quote != '\'' && quote != '"') {
      fail_here("expected a string (a structured type is not supported)");
    }
    const std::size_t begin = ++position_;
    const std::size_t end = text_.find(quote, begin);
    if (end == std::string_view::npos) {
      fail_here("string without an end");
    }
    position_ = end + 1;
    return text_.substr(begin, end - begin);
  }

  bool parse_bool() {
    skip_blanks();
    for (const std::string_view word : {std::string_view("True"), std::string_view("False")}) {
      if (text_.substr(position_).starts_with(word)) {
        position_ += word.size();
        return word == "True";
      }
    }
    fail_here("expected True or False");
  }

  std::int64_t parse_size() {
    skip_blanks();
    const char* begin = text_.data() + position_;
    std::int64_t size = 0;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), size);
    if (error != std::errc() || size < 0) {
      fail_here("expected a size >= 0 that fits 63 bits");
    }
    position_ += static_cast<std::size_t>(end - begin);
    return size;
  }

  kernels::Shape parse_shape() {
    expect('(');
    std::vector<std::int64_t> sizes;
    while (!accept(')')) {
      if (sizes.size() == static_cast<std::size_t>(kernels::kMaxRank)) {
        fail_here(fmt::format("expected at most {} dimensions", kernels::kMaxRank));
      }
      sizes.push_back(parse_size());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return kernels::Shape(std::move(sizes));
  }

  void parse_item() {
    const std::string_view key = parse_string();
    expect(':');
    if (key == "descr" && !type_) {
      type_ = parse_type();
    } else if (key == "fortran_order" && !has_order_) {
      has_order_ = true;
      if (parse_bool()) {
        fail_here("array in Fortran order; save numpy.ascontiguousarray(array)");
      }
    } else if (key == "shape" && !shape_) {
      shape_ = parse_shape();
    } else {
      fail_here(fmt::format("unknown or repeated key '{}'", key));
    }
  }

  NpyType parse_type() {
    const std::string_view type = parse_string();
    if (type == "<f4") {
      return NpyType::kFloat32;
    }
    if (type == "<f8") {
      return NpyType::kFloat64;
    }
    if (type.find('O') != std::string_view::npos) {
      fail_here(fmt::format("object array: got type '{}'; pickled objects are never read", type));
    }
    if (type.starts_with('>')) {
      fail_here(fmt::format("big-endian array: got type '{}', expected '<f4' or '<f8'", type));
    }
    fail_here(fmt::format("got type '{}', expected '<f4' or '<f8'", type));
  }

  std::string_view text_;
  std::string_view path_;
  std::int64_t offset_;
  std::size_t position_ = 0;
  std::optional<NpyType> type_;
  bool has_order_ = false;
  std::optional<kernels::Shape> shape_;
};

std::int64_t checked_elements(const kernels::Shape& shape, std::string_view path) {
  try {
    return shape.num_elements();
  } catch (const InvalidArgument&) {
    fail(path, kLengthOffset, fmt::format("shape {} is too large", shape.to_string()));
  }
}

std::int64_t element_bytes(NpyType type) {
  return type == NpyType::kFloat32 ? 4 : 8;
}

}  // namespace

std::int64_t NpyHeader::data_bytes() const {
  return shape.num_elements() * element_bytes(type);
}

std::string encode_npy_header(const kernels::Shape& shape) {
  std::string sizes;
  for (const std::int64_t size : shape.sizes()) {
    sizes += fmt::format("{}{}", sizes.empty() ? "" : ", ", size);
  }
  sizes += shape.rank() == 1 ? "," : "";
  std::string dictionary =
      fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes);
  const std::int64_t used = kPrefixBytesV1 + static_cast<std::int64_t>(dictionary.size()) + 1;
  dictionary.append(static_cast<std::size_t>(padded_bytes(used) - used), ' ');
  dictionary += '\n';
  const auto length = static_cast<std::uint16_t>(dictionary.size());
  std::string header(kMagic);
  header += '\x01';
  header += '\x00';
  header += static_cast<char>(length & 0xFF);
  header += static_cast<char>(length >> 8);
  return header + dictionary;
}

std::int64_t npy_header_bytes(std::span<const std::byte> prefix, std::string_view path) {
  if (static_cast<std::int64_t>(prefix.size()) < kNpyPrefixBytes) {
    fail(path, static_cast<std::int64_t>(prefix.size()), "file ends within the header");
  }
  if (std::memcmp(prefix.data(), kMagic.data(), kMagic.size()) != 0) {
    fail(path, 0, "not a .npy file: wrong magic number");
  }
  const int version = static_cast<int>(prefix[kVersionOffset]);
  if (version < 1 || version > 3 || prefix[kVersionOffset + 1] != std::byte{0}) {
    fail(path, kVersionOffset,
         fmt::format("unknown .npy version: got {}.{}, expected 1.0 to 3.0", version,
                     static_cast<int>(prefix[kVersionOffset + 1])));
  }
  std::uint32_t length = 0;
  const std::int64_t bytes = prefix_bytes(prefix);
  std::memcpy(&length, prefix.data() + kLengthOffset,
              static_cast<std::size_t>(bytes - kLengthOffset));
  if (length > kMaxNpyHeaderBytes - bytes) {
    fail(path, kLengthOffset,
         fmt::format("header too long: got {} bytes, expected at most {}", length,
                     kMaxNpyHeaderBytes - bytes));
  }
  return bytes + static_cast<std::int64_t>(length);
}

NpyHeader decode_npy_header(std::span<const std::byte> bytes, std::int64_t file_bytes,
                            std::string_view path) {
  const std::int64_t prefix = prefix_bytes(bytes);
  const auto text = bytes.subspan(static_cast<std::size_t>(prefix));
  NpyHeader header =
      LiteralParser({reinterpret_cast<const char*>(text.data()), text.size()}, path, prefix)
          .parse();
  header.header_bytes = static_cast<std::int64_t>(bytes.size());
  const std::int64_t elements = checked_elements(header.shape, path);
  const std::int64_t available = file_bytes - header.header_bytes;
  // Compared in elements, so that nothing overflows.
  const std::int64_t width = element_bytes(header.type);
  if (available % width != 0 || available / width != elements) {
    fail(path, header.header_bytes,
         fmt::format("data do not match shape {}: got {} bytes, expected {} elements of {} bytes",
                     header.shape.to_string(), available, elements, width));
  }
  return header;
}

}  // namespace superstep::paramserver
