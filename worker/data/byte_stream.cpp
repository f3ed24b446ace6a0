#include "worker/data/byte_stream.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string_view>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/check.h"
#include "base/error.h"
#include "base/file_descriptor.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kByteStream = "ByteStream";
constexpr std::size_t kBufferBytes = 64 * 1024;
// The best deflate can do: 258 bytes of content in two bits (RFC 1951), 1,032 per byte.
constexpr std::int64_t kMaxDeflateRatio = 1032;
constexpr int kGzipWindowBits = 16 + MAX_WBITS;  // 16: expect a gzip header and trailer
constexpr unsigned char kGzipMagic0 = 0x1f;
constexpr unsigned char kGzipMagic1 = 0x8b;

std::string reason_of(int error_number) {
  return std::generic_category().message(error_number);
}

internal::FileDescriptor open_regular_file(const std::filesystem::path& path, std::int64_t& size) {
  internal::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) {
    throw DataError(kByteStream, path.string(), -1,
                    fmt::format("cannot open: {}", reason_of(errno)));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) {
    throw DataError(kByteStream, path.string(), -1,
                    fmt::format("cannot stat: {}", reason_of(errno)));
  }
  if (S_ISDIR(status.st_mode)) {
    throw DataError(kByteStream, path.string(), -1, "got a directory, expected a file");
  }
  if (!S_ISREG(status.st_mode)) {
    throw DataError(kByteStream, path.string(), -1,
                    "got a device or pipe, expected a regular file");
  }
  size = status.st_size;
  return file;
}

}  // namespace

struct ByteStream::State {
  explicit State(const std::filesystem::path& file_path)
      : path(file_path), file(open_regular_file(file_path, file_bytes)), input(kBufferBytes) {
    refill();
    is_gzip = starts_with_gzip_magic();
    if (is_gzip) {
      SUPERSTEP_CHECK(inflateInit2(&inflater, kGzipWindowBits) == Z_OK, "zlib initialisation");
    }
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (is_gzip) {
      inflateEnd(&inflater);
    }
  }

  std::size_t available() const { return input_end - input_begin; }
  // Offset in the file of the next byte that was not used yet.
  std::int64_t file_offset() const {
    return read_from_file - static_cast<std::int64_t>(available());
  }

  // Keeps what is left and reads on until the buffer is full or the file ends.
  void refill() {
    std::copy(input.begin() + static_cast<std::ptrdiff_t>(input_begin),
              input.begin() + static_cast<std::ptrdiff_t>(input_end), input.begin());
    input_end -= input_begin;
    input_begin = 0;
    while (input_end < input.size()) {
      const ssize_t got = ::read(file.get(), input.data() + input_end, input.size() - input_end);
      if (got < 0 && errno == EINTR) {
        continue;
      }
      if (got < 0) {
        throw DataError(kByteStream, path.string(), read_from_file,
                        fmt::format("cannot read: {}", reason_of(errno)));
      }
      if (got == 0) {
        return;
      }
      input_end += static_cast<std::size_t>(got);
      read_from_file += got;
    }
  }

  bool starts_with_gzip_magic() const {
    return available() >= 2 && input[input_begin] == kGzipMagic0 &&
           input[input_begin + 1] == kGzipMagic1;
  }

  std::int64_t read_plain(std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size()) {
      if (available() == 0) {
        refill();
      }
      const std::size_t count = std::min(available(), out.size() - done);
      if (count == 0) {
        break;
      }
      std::memcpy(out.data() + done, input.data() + input_begin, count);
      input_begin += count;
      done += count;
    }
    return static_cast<std::int64_t>(done);
  }

  // One call of inflate; returns the bytes produced. May end a member, and with it the content.
  std::size_t inflate_some(std::span<std::byte> out) {
    if (available() == 0) {
      refill();
    }
    inflater.next_in = input.data() + input_begin;
    inflater.avail_in = static_cast<uInt>(available());
    inflater.next_out = reinterpret_cast<Bytef*>(out.data());
    inflater.avail_out = static_cast<uInt>(std::min(out.size(), std::size_t{1} << 30));
    const uInt asked = inflater.avail_out;
    const int status = inflate(&inflater, Z_NO_FLUSH);
    input_begin = input_end - inflater.avail_in;
    if (status == Z_STREAM_END) {
      finish_member();
    } else if (status == Z_BUF_ERROR && available() == 0) {
      throw DataError(kByteStream, path.string(), file_offset(),
                      "gzip stream ends early: the file is truncated");
    } else if (status != Z_OK) {
      throw DataError(kByteStream, path.string(), file_offset(),
                      fmt::format("corrupt gzip stream: {}",
                                  inflater.msg != nullptr ? inflater.msg : "unknown reason"));
    }
    return asked - inflater.avail_out;
  }

  void finish_member() {
    if (available() < 2) {
      refill();
    }
    if (available() == 0) {
      finished = true;
      return;
    }
    if (!starts_with_gzip_magic()) {
      throw DataError(kByteStream, path.string(), file_offset(),
                      fmt::format("garbage after the gzip stream: got {} more bytes, expected the "
                                  "end of the file",
                                  file_bytes - file_offset()));
    }
    SUPERSTEP_CHECK(inflateReset(&inflater) == Z_OK, "zlib reset");
  }

  std::int64_t read_gzip(std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size() && !finished) {
      done += inflate_some(out.subspan(done));
    }
    return static_cast<std::int64_t>(done);
  }

  std::int64_t read(std::span<std::byte> out) {
    std::int64_t done = 0;
    if (has_peeked && !out.empty()) {
      out[0] = peeked;
      has_peeked = false;
      out = out.subspan(1);
      done = 1;
    }
    done += is_gzip ? read_gzip(out) : read_plain(out);
    offset += done;
    return done;
  }

  bool at_end() {
    if (!has_peeked) {
      has_peeked = (is_gzip ? read_gzip({&peeked, 1}) : read_plain({&peeked, 1})) == 1;
    }
    return !has_peeked;
  }

  std::filesystem::path path;
  std::int64_t file_bytes = 0;  // before `file`: its initialiser sets it
  internal::FileDescriptor file;
  std::vector<unsigned char> input;
  std::size_t input_begin = 0;
  std::size_t input_end = 0;
  std::int64_t read_from_file = 0;
  bool is_gzip = false;
  bool finished = false;  // gzip: the last member has ended
  z_stream inflater{};
  bool has_peeked = false;
  std::byte peeked{};
  std::int64_t offset = 0;
};

ByteStream::ByteStream(const std::filesystem::path& path) : state_(std::make_unique<State>(path)) {}
ByteStream::ByteStream(ByteStream&&) noexcept = default;
ByteStream& ByteStream::operator=(ByteStream&&) noexcept = default;
ByteStream::~ByteStream() = default;

std::int64_t ByteStream::read(std::span<std::byte> out) {
  return state_->read(out);
}

bool ByteStream::at_end() {
  return state_->at_end();
}

bool ByteStream::is_gzip() const {
  return state_->is_gzip;
}

std::int64_t ByteStream::offset() const {
  return state_->offset;
}

std::int64_t ByteStream::file_bytes() const {
  return state_->file_bytes;
}

std::int64_t ByteStream::max_content_bytes() const {
  if (!state_->is_gzip) {
    return state_->file_bytes;
  }
  if (state_->file_bytes > std::numeric_limits<std::int64_t>::max() / kMaxDeflateRatio) {
    return std::numeric_limits<std::int64_t>::max();
  }
  return state_->file_bytes * kMaxDeflateRatio;
}

const std::filesystem::path& ByteStream::path() const {
  return state_->path;
}

}  // namespace superstep::worker
