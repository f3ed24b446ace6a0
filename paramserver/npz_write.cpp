#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zip.h>

#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_descriptor.h"
#include "paramserver/npy_header.h"
#include "paramserver/npz.h"
#include "paramserver/zip_handle.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_writing(const fs::path& path, std::string_view action, zip_t* archive) {
  const zip_error_t* error = zip_get_error(archive);
  if (zip_error_system_type(error) == ZIP_ET_SYS) {
    internal::throw_write_error("write_npz", path, action, zip_error_code_system(error));
  }
  throw DataError("write_npz", path.native(), -1,
                  fmt::format("cannot {}: {}", action, zip_strerror(archive)), ExitCode::kFailure);
}

// header and values must remain valid until the archive is closed.
void add_member(zip_t* archive, const fs::path& path, const std::string& name,
                const std::string& header, std::span<const float> values) {
  zip_buffer_fragment_t fragments[2];
  const auto set = [&](int i, const void* data, std::size_t bytes) {
    // libzip's interface is shared with sources that can be written; these never are.
    fragments[i].data = static_cast<zip_uint8_t*>(const_cast<void*>(data));
    fragments[i].length = bytes;
  };
  set(0, header.data(), header.size());
  set(1, values.data(), values.size_bytes());
  zip_source_t* source = zip_source_buffer_fragment(archive, fragments, 2, 0);
  if (source == nullptr) {
    fail_writing(path, "add a member", archive);
  }
  const zip_int64_t index =
      zip_file_add(archive, (name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    zip_source_free(source);
    fail_writing(path, "add a member", archive);
  }
  // 1980-01-01 00:00, the first time a zip can hold, given as such: a time_t would go through the
  // zone.
  constexpr zip_uint16_t kFirstDosDate = 0x21;
  const auto member = static_cast<zip_uint64_t>(index);
  if (zip_set_file_compression(archive, member, ZIP_CM_STORE, 0) != 0 ||
      zip_file_set_dostime(archive, member, 0, kFirstDosDate, 0) != 0) {
    fail_writing(path, "describe a member", archive);
  }
}

// Removes the temporary unless it was moved away.
class Temporary {
 public:
  explicit Temporary(const fs::path& target)
      : path_(target.parent_path() /
              fmt::format(".tmp-{}-{}", ::getpid(), target.filename().native())) {
    ::unlink(path_.c_str());  // of an earlier process with this number
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() { ::unlink(path_.c_str()); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void sync_and_move(const fs::path& from, const fs::path& to) {
  const internal::FileDescriptor file(::open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.is_open() || ::fsync(file.get()) != 0) {
    internal::throw_write_error("write_npz", to, "sync", errno);
  }
  if (::rename(from.c_str(), to.c_str()) != 0) {
    internal::throw_write_error("write_npz", to, "move the file into place", errno);
  }
  fsync_directory(to.has_parent_path() ? to.parent_path() : fs::path("."));
}

}  // namespace

void write_npz(const fs::path& path, const ParameterLayout& layout, std::span<const float> buffer) {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(buffer.size()) == layout.size(), "write_npz of",
                  buffer.size(), "elements, expected", layout.size());
  const Temporary temporary(path);
  std::string reason;
  ZipArchive archive = open_zip(temporary.path(), ZIP_CREATE | ZIP_EXCL, reason);
  if (archive == nullptr) {
    throw DataError("write_npz", path.native(), -1, fmt::format("cannot create: {}", reason),
                    ExitCode::kFailure);
  }
  std::vector<std::string> headers;
  for (const LayoutEntry& entry : layout.entries()) {
    headers.push_back(encode_npy_header(entry.shape));
  }
  for (std::size_t i = 0; i < headers.size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    add_member(archive.get(), path, entry.name, headers[i],
               buffer.subspan(static_cast<std::size_t>(entry.offset),
                              static_cast<std::size_t>(entry.num_elements())));
  }
  if (zip_close(archive.get()) != 0) {
    fail_writing(path, "write", archive.get());
  }
  (void)archive.release();  // closed and freed
  sync_and_move(temporary.path(), path);
}

}  // namespace superstep::paramserver
