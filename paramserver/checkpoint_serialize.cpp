#include "paramserver/checkpoint_serialize.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <new>
#include <set>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <system_error>

#include <boost/archive/archive_exception.hpp>
#include <boost/archive/binary_iarchive.hpp>
#include <boost/archive/binary_oarchive.hpp>
#include <fmt/format.h>

#include "base/error.h"
#include "paramserver/checkpoint_files.h"

namespace superstep::paramserver {

namespace {

constexpr std::string_view kReadManifest = "Checkpoint";

// The first 24 bytes of the frame.
struct FrameHeader {
  std::array<char, 8> magic{'S', 'S', 'C', 'K', 'P', 'T', '\0', '\1'};
  std::uint32_t version = 1;
  std::uint32_t zero = 0;
  std::uint64_t payload_bytes = 0;
};
constexpr std::int64_t kHashOffset = 24;
constexpr std::int64_t kPayloadOffset = kHashOffset + kHashBytes;
static_assert(sizeof(FrameHeader) == kHashOffset, "the header has no padding");

// Everything in the archive is a fixed-width number or raw bytes behind a count, so the archive's
// own header (library version and the sizes of native types) would say nothing.
constexpr unsigned kArchiveFlags = boost::archive::no_header | boost::archive::no_codecvt;

// A loaded value breaks a rule of the manifest.
class InvalidManifest : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class OutputBuffer : public std::streambuf {
 public:
  const std::vector<std::byte>& bytes() const { return bytes_; }

 protected:
  std::streamsize xsputn(const char* data, std::streamsize count) override {
    const auto added = std::as_bytes(std::span(data, static_cast<std::size_t>(count)));
    bytes_.insert(bytes_.end(), added.begin(), added.end());
    return count;
  }

 private:
  std::vector<std::byte> bytes_;
};

// Reads from memory that outlives it, and knows how much is left.
class InputBuffer : public std::streambuf {
 public:
  explicit InputBuffer(std::span<const std::byte> bytes) {
    // std::streambuf wants char*, but only ever writes through a put area, which there is none of.
    char* begin = const_cast<char*>(reinterpret_cast<const char*>(bytes.data()));
    setg(begin, begin, begin + bytes.size());
  }
  std::uint64_t remaining() const { return static_cast<std::uint64_t>(egptr() - gptr()); }
};

// Saver and Loader have the same members, so that transfer() below is written once.
class Saver {
 public:
  template <typename Number>
  void number(const Number& value) {
    archive_ << value;
  }
  template <typename Enum>
  void enumerator(const Enum& value, Enum) {
    number(static_cast<std::int32_t>(value));
  }
  void text(const std::string& value) { items(value); }
  // A container of bytes or of structures without padding.
  template <typename Container>
  void items(const Container& values) {
    count(values.size());
    archive_.save_binary(values.data(), values.size() * sizeof(*values.data()));
  }
  template <typename Value, typename Transfer>
  void dictionary(const std::map<std::string, Value>& entries, Transfer transfer) {
    count(entries.size());
    for (const auto& [key, value] : entries) {
      text(key);
      transfer(value);
    }
  }
  template <typename Value, typename Transfer>
  void list(const std::vector<Value>& values, Transfer transfer) {
    count(values.size());
    for (const Value& value : values) {
      transfer(value);
    }
  }
  const std::vector<std::byte>& bytes() const { return buffer_.bytes(); }

 private:
  void count(std::size_t count) { number(static_cast<std::uint64_t>(count)); }

  OutputBuffer buffer_;
  boost::archive::binary_oarchive archive_{buffer_, kArchiveFlags};
};

class Loader {
 public:
  explicit Loader(std::span<const std::byte> payload)
      : buffer_(payload), archive_(buffer_, kArchiveFlags) {}

  template <typename Number>
  void number(Number& value) {
    archive_ >> value;
  }
  template <typename Enum>
  void enumerator(Enum& value, Enum last) {
    std::int32_t loaded = 0;
    number(loaded);
    if (loaded < 0 || loaded > static_cast<std::int32_t>(last)) {
      throw InvalidManifest(fmt::format("unknown enumerator: got {}, expected 0 to {}", loaded,
                                        static_cast<std::int32_t>(last)));
    }
    value = static_cast<Enum>(loaded);
  }
  void text(std::string& value) { items(value); }
  template <typename Container>
  void items(Container& values) {
    values.resize(count(sizeof(*values.data())));
    archive_.load_binary(values.data(), values.size() * sizeof(*values.data()));
  }
  template <typename Value, typename Transfer>
  void dictionary(std::map<std::string, Value>& entries, Transfer transfer) {
    const std::size_t size = count(sizeof(std::uint64_t));  // at least the length of the key
    for (std::size_t i = 0; i < size; ++i) {
      std::string key;
      text(key);
      if (!entries.empty() && key <= entries.rbegin()->first) {
        throw InvalidManifest(fmt::format("keys out of order: got \"{}\" after \"{}\"", key,
                                          entries.rbegin()->first));
      }
      transfer(entries[key]);
    }
  }
  template <typename Value, typename Transfer>
  void list(std::vector<Value>& values, Transfer transfer) {
    const std::size_t size = count(sizeof(std::uint64_t));  // every value begins with a number
    for (std::size_t i = 0; i < size; ++i) {
      transfer(values.emplace_back());
    }
  }
  std::uint64_t remaining() const { return buffer_.remaining(); }

 private:
  std::size_t count(std::size_t item_bytes) {
    std::uint64_t count = 0;
    number(count);
    if (count > buffer_.remaining() / item_bytes) {
      throw InvalidManifest(fmt::format("a count of {} does not fit the {} bytes that follow",
                                        count, buffer_.remaining()));
    }
    return static_cast<std::size_t>(count);
  }

  InputBuffer buffer_;
  boost::archive::binary_iarchive archive_;
};

template <typename Stream, typename Spec>
void transfer_optimizer(Stream& stream, Spec& spec) {
  stream.enumerator(spec.kind, OptimizerKind::kAdamW);
  stream.number(spec.learning_rate);
  stream.number(spec.momentum);
  stream.number(spec.beta1);
  stream.number(spec.beta2);
  stream.number(spec.epsilon);
  stream.number(spec.weight_decay);
  stream.number(spec.initial_accumulator);
}

template <typename Stream, typename Schedule>
void transfer_schedule(Stream& stream, Schedule& schedule) {
  stream.enumerator(schedule.kind, ScheduleKind::kPolynomial);
  stream.number(schedule.warmup_steps);
  stream.number(schedule.total_steps);
  stream.items(schedule.boundaries);
  stream.number(schedule.gamma);
  stream.number(schedule.power);
  stream.number(schedule.final_factor);
}

template <typename Stream, typename AnyManifest>
void transfer(Stream& stream, AnyManifest& manifest) {
  stream.text(manifest.run_id);
  stream.text(manifest.program_version);
  stream.text(manifest.model_description);
  stream.text(manifest.configuration);
  transfer_optimizer(stream, manifest.optimizer);
  transfer_schedule(stream, manifest.schedule);
  stream.number(manifest.position.superstep);
  stream.number(manifest.position.epoch);
  stream.number(manifest.position.step_in_epoch);
  stream.number(manifest.position.seed);
  stream.dictionary(manifest.numbers, [&](auto& value) { stream.number(value); });
  stream.dictionary(manifest.texts, [&](auto& value) { stream.text(value); });
  stream.list(manifest.arrays, [&](auto& array) {
    stream.text(array.name);
    stream.number(array.num_elements);
    stream.items(array.blocks);
  });
  stream.number(manifest.file_elements);
  stream.number(manifest.parameters_hash.low);
  stream.number(manifest.parameters_hash.high);
  stream.number(manifest.state_hash.low);
  stream.number(manifest.state_hash.high);
}

Hash128 frame_hash(const FrameHeader& header, std::span<const std::byte> payload) {
  Hasher hasher;
  hasher.update(std::as_bytes(std::span(&header, 1)));
  hasher.update(payload);
  return hasher.digest();
}

void require(bool condition, std::string_view rule) {
  if (!condition) {
    throw InvalidManifest(std::string(rule));
  }
}

void validate_arrays(const Manifest& manifest) {
  std::set<std::string> names;
  for (const Manifest::Array& array : manifest.arrays) {
    require(is_array_name(array.name), "array name");
    require(names.insert(array.name).second, "two arrays of one name");
    require(array.num_elements > 0 && array.num_elements <= kMaxArrayElements, "elements of array");
    require(static_cast<std::int64_t>(array.blocks.size()) == num_blocks(array.num_elements),
            "number of blocks");
  }
}

void validate_manifest(const Manifest& manifest) {
  const Position& position = manifest.position;
  require(position.superstep >= 0 && position.epoch >= 0 && position.step_in_epoch >= 0,
          "position");
  require(manifest.file_elements > 0 && manifest.file_elements % kBlockElements == 0,
          "elements per file");
  validate_arrays(manifest);
  validate(manifest.optimizer);
  validate(manifest.schedule);
  require(manifest.state_hash == state_hash(manifest), "state_hash");
}

Manifest load_payload(std::span<const std::byte> payload) {
  Loader loader(payload);
  Manifest manifest;
  transfer(loader, manifest);
  require(loader.remaining() == 0, "bytes after the end of the archive");
  validate_manifest(manifest);
  return manifest;
}

// Returns the payload of a frame that is whole and undamaged.
std::span<const std::byte> open_frame(std::span<const std::byte> bytes,
                                      const std::filesystem::path& path) {
  const auto fail = [&](std::int64_t offset, const std::string& what) {
    throw DataError(kReadManifest, path.native(), offset, what, ExitCode::kBadCheckpoint);
  };
  const auto size = static_cast<std::int64_t>(bytes.size());
  FrameHeader header;
  const FrameHeader expected;
  if (!bytes.empty()) {  // an empty span may have no address, which memcpy must not see
    std::memcpy(&header, bytes.data(), std::min(bytes.size(), sizeof header));
  }
  if (header.magic != expected.magic) {
    fail(0, "not the manifest of a checkpoint: wrong magic number");
  }
  if (size < kPayloadOffset) {
    fail(size,
         fmt::format("file ends early: got {} bytes, expected at least {}", size, kPayloadOffset));
  }
  if (header.version != expected.version) {
    fail(8, fmt::format("unknown version of the format: got {}, expected {}", header.version,
                        expected.version));
  }
  if (header.zero != 0) {
    fail(12, fmt::format("reserved bytes: got {}, expected 0", header.zero));
  }
  if (header.payload_bytes != static_cast<std::uint64_t>(size - kPayloadOffset)) {
    fail(16, fmt::format("length does not match: got {} bytes of payload, expected {}",
                         size - kPayloadOffset, header.payload_bytes));
  }
  const auto payload = bytes.subspan(static_cast<std::size_t>(kPayloadOffset));
  const Hash128 stored = hash_from_bytes(bytes.subspan<kHashOffset, kHashBytes>());
  if (const Hash128 actual = frame_hash(header, payload); actual != stored) {
    fail(kHashOffset, fmt::format("file is damaged: contents have hash {}, expected {}",
                                  to_text(actual), to_text(stored)));
  }
  return payload;
}

}  // namespace

std::vector<std::byte> encode_manifest(const Manifest& manifest) {
  Saver saver;
  transfer(saver, manifest);
  const std::span<const std::byte> payload(saver.bytes());
  FrameHeader header;
  header.payload_bytes = payload.size();
  const auto hash = to_bytes(frame_hash(header, payload));
  std::vector<std::byte> frame(static_cast<std::size_t>(kPayloadOffset) + payload.size());
  std::memcpy(frame.data(), &header, sizeof header);
  std::memcpy(frame.data() + kHashOffset, hash.data(), hash.size());
  std::copy(payload.begin(), payload.end(), frame.begin() + kPayloadOffset);
  return frame;
}

Manifest decode_manifest(std::span<const std::byte> bytes, const std::filesystem::path& path) {
  const std::span<const std::byte> payload = open_frame(bytes, path);
  // The hash was right, so what follows can only go wrong for a frame that another program made.
  std::string problem;
  try {
    return load_payload(payload);
  } catch (const boost::archive::archive_exception& error) {
    problem = error.what();
  } catch (const std::bad_alloc&) {
    problem = "not enough memory";
  } catch (const std::length_error& error) {
    problem = error.what();
  } catch (const InvalidManifest& error) {
    problem = error.what();
  } catch (const InvalidArgument& error) {
    problem = error.what();
  }
  throw DataError(kReadManifest, path.native(), kPayloadOffset, "invalid manifest: " + problem,
                  ExitCode::kBadCheckpoint);
}

Manifest read_manifest(const std::filesystem::path& directory) {
  const auto fail = [](const std::filesystem::path& path, std::string_view what) {
    throw DataError(kReadManifest, path.native(), -1, what, ExitCode::kBadCheckpoint);
  };
  const std::filesystem::path path = directory / kManifestName;
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    fail(directory, "no such checkpoint directory");
  }
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) {
    fail(path, "missing: not a checkpoint, or one whose writing was interrupted");
  }
  const std::int64_t size = checkpoint_file_size(path);
  if (size > kMaxManifestBytes) {
    fail(path,
         fmt::format("file too large: got {} bytes, expected at most {}", size, kMaxManifestBytes));
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  read_at(open_checkpoint_file(path), path, 0, bytes);
  return decode_manifest(bytes, path);
}

}  // namespace superstep::paramserver
