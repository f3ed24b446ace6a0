#include "paramserver/npz.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <zip.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "paramserver/npy_header.h"
#include "paramserver/zip_handle.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".npy";

[[noreturn]] void fail_reading(std::string_view path, std::string_view what,
                               std::int64_t offset = -1) {
  throw DataError("NpzReader", path, offset, what);
}

// A deflated stream of n bytes holds at most 1,032 n: a longest match of 258 bytes takes 2 bits.
bool can_expand_to(const zip_stat_t& status, std::int64_t file_bytes) {
  constexpr zip_uint64_t kMostExpansion = 1032;
  if (status.comp_size > static_cast<zip_uint64_t>(file_bytes)) {
    return false;
  }
  return status.comp_method == ZIP_CM_STORE ? status.size == status.comp_size
                                            : status.size / kMostExpansion <= status.comp_size;
}

void check_member_name(std::string_view name, std::string_view archive) {
  const std::string framed = fmt::format("/{}/", name);
  if (name.empty() || name.starts_with('/') || name.find('\\') != std::string_view::npos ||
      framed.find("/../") != std::string::npos) {
    fail_reading(archive, fmt::format("member with an unsafe name: got \"{}\"", name));
  }
  if (!name.ends_with(kSuffix) || name.size() == kSuffix.size()) {
    fail_reading(archive, fmt::format("member is not an array: got \"{}\", expected a name that "
                                      "ends in \".npy\"",
                                      name));
  }
}

void check_member(const zip_stat_t& status, std::int64_t archive_bytes, std::string_view where) {
  constexpr zip_uint64_t kNeeded =
      ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  if ((status.valid & kNeeded) != kNeeded) {
    fail_reading(where, "the archive does not say how the member is stored");
  }
  if (status.encryption_method != ZIP_EM_NONE) {
    fail_reading(where, "member is encrypted");
  }
  if (status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE) {
    fail_reading(where,
                 fmt::format("compression method: got {}, expected 0 (stored) or 8 (deflated)",
                             status.comp_method));
  }
  if (!can_expand_to(status, archive_bytes)) {
    fail_reading(where, fmt::format("impossible size: got {} bytes out of {} in an archive of {}",
                                    status.size, status.comp_size, archive_bytes));
  }
}

// Reads all of `bytes` from a member.
void read_exactly(zip_file_t* member, std::span<std::byte> bytes, std::int64_t offset,
                  std::string_view where) {
  while (!bytes.empty()) {
    const zip_int64_t count = zip_fread(member, bytes.data(), bytes.size());
    if (count < 0) {
      fail_reading(where, fmt::format("cannot read: {}", zip_file_strerror(member)), offset);
    }
    if (count == 0) {
      fail_reading(where, fmt::format("member ends early: {} more bytes expected", bytes.size()),
                   offset);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

// The end must be where the directory says; reading it is what makes libzip compare the CRC-32.
void require_end(zip_file_t* member, std::string_view where) {
  std::byte extra{};
  const zip_int64_t count = zip_fread(member, &extra, 1);
  if (count < 0) {
    fail_reading(where, fmt::format("member is damaged: {}", zip_file_strerror(member)));
  }
  if (count > 0) {
    fail_reading(where, "member is longer than the archive says");
  }
}

// `read(bytes, offset)` fills bytes from offset on; calls ascend.
template <typename Read>
NamedArray read_array(std::int64_t file_bytes, std::string_view path, Read read) {
  std::vector<std::byte> text(
      static_cast<std::size_t>(std::min(kNpyPrefixBytes, std::max<std::int64_t>(file_bytes, 0))));
  read(std::span(text), 0);
  const std::int64_t header_bytes = npy_header_bytes(text, path);
  if (header_bytes < kNpyPrefixBytes || header_bytes > file_bytes) {
    fail_reading(path, fmt::format("file ends within the header: got {} bytes, header of {}",
                                   file_bytes, header_bytes));
  }
  text.resize(static_cast<std::size_t>(header_bytes));
  read(std::span(text).subspan(kNpyPrefixBytes), kNpyPrefixBytes);
  const NpyHeader header = decode_npy_header(text, file_bytes, path);

  NamedArray array{.name = {}, .shape = header.shape, .values = {}};
  array.values.resize(static_cast<std::size_t>(header.shape.num_elements()));
  if (header.type == NpyType::kFloat32) {
    read(std::as_writable_bytes(std::span(array.values)), header.header_bytes);
    return array;
  }
  std::vector<double> wide(array.values.size());
  read(std::as_writable_bytes(std::span(wide)), header.header_bytes);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    if (std::isfinite(wide[i]) && std::abs(wide[i]) > std::numeric_limits<float>::max()) {
      fail_reading(path, fmt::format("element {} does not fit float32: got {}", i, wide[i]),
                   header.header_bytes + static_cast<std::int64_t>(i * sizeof(double)));
    }
    array.values[i] = static_cast<float>(wide[i]);
  }
  return array;
}

}  // namespace

NamedArray read_npy(const fs::path& path) {
  constexpr std::int64_t kMostBytes = std::int64_t{1} << 40;
  const std::vector<std::byte> file = read_file(path, kMostBytes);
  return read_array(static_cast<std::int64_t>(file.size()), path.native(),
                    [&](std::span<std::byte> bytes, std::int64_t offset) {
                      std::copy_n(file.begin() + offset, bytes.size(), bytes.begin());
                    });
}

struct NpzReader::State {
  fs::path path;
  ZipArchive archive;
  std::int64_t archive_bytes = 0;
  std::vector<std::string> names;
};

NpzReader::NpzReader(fs::path path) : state_(std::make_unique<State>()) {
  state_->path = std::move(path);
  const std::string& text = state_->path.native();
  std::error_code error;
  state_->archive_bytes = static_cast<std::int64_t>(fs::file_size(state_->path, error));
  if (error) {
    fail_reading(text, fmt::format("cannot open: {}", error.message()));
  }
  std::string reason;
  state_->archive = open_zip(state_->path, ZIP_RDONLY | ZIP_CHECKCONS, reason);
  if (state_->archive == nullptr) {
    fail_reading(text, fmt::format("not a sound zip archive: {}", reason));
  }
  std::set<std::string> seen;
  const zip_int64_t count = zip_get_num_entries(state_->archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<zip_uint64_t>(i);
    const char* raw = zip_get_name(state_->archive.get(), index, ZIP_FL_ENC_RAW);
    std::string name = raw == nullptr ? "" : raw;
    check_member_name(name, text);
    zip_stat_t status;
    zip_stat_init(&status);
    if (zip_stat_index(state_->archive.get(), index, 0, &status) != 0) {
      fail_reading(text, fmt::format("cannot find member \"{}\"", name));
    }
    check_member(status, state_->archive_bytes, fmt::format("{}/{}", text, name));
    name.resize(name.size() - kSuffix.size());
    if (!seen.insert(name).second) {
      fail_reading(text, fmt::format("two members have the same name: \"{}\"", name));
    }
    state_->names.push_back(std::move(name));
  }
}

NpzReader::NpzReader(NpzReader&&) noexcept = default;
NpzReader& NpzReader::operator=(NpzReader&&) noexcept = default;
NpzReader::~NpzReader() = default;

const std::vector<std::string>& NpzReader::names() const {
  return state_->names;
}

NamedArray NpzReader::read(const std::string& name) const {
  const auto found = std::find(state_->names.begin(), state_->names.end(), name);
  const std::string where = fmt::format("{}/{}{}", state_->path.native(), name, kSuffix);
  if (found == state_->names.end()) {
    throw InvalidArgument("NpzReader",
                          fmt::format("{} has no array \"{}\"{}", state_->path.native(), name,
                                      did_you_mean(name, state_->names)));
  }
  const auto index = static_cast<zip_uint64_t>(found - state_->names.begin());
  zip_stat_t status;
  zip_stat_init(&status);
  const ZipMember member(zip_fopen_index(state_->archive.get(), index, 0));
  if (member == nullptr || zip_stat_index(state_->archive.get(), index, 0, &status) != 0) {
    fail_reading(where, fmt::format("cannot open: {}", zip_strerror(state_->archive.get())));
  }
  NamedArray array = read_array(static_cast<std::int64_t>(status.size), where,
                                [&](std::span<std::byte> bytes, std::int64_t offset) {
                                  read_exactly(member.get(), bytes, offset, where);
                                });
  require_end(member.get(), where);
  array.name = name;
  return array;
}

}  // namespace superstep::paramserver
