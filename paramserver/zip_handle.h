// Ownership of libzip's handles, for the .npz reader and writer only.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <zip.h>

namespace superstep::paramserver {

struct DiscardArchive {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
using ZipArchive = std::unique_ptr<zip_t, DiscardArchive>;

struct CloseMember {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};
using ZipMember = std::unique_ptr<zip_file_t, CloseMember>;

// Null on failure; `reason` then says why.
inline ZipArchive open_zip(const std::filesystem::path& path, int flags, std::string& reason) {
  int error_number = 0;
  ZipArchive archive(zip_open(path.c_str(), flags, &error_number));
  if (archive == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, error_number);
    // libzip calls two members of one name "File already exists".
    const bool twice = error_number == ZIP_ER_EXISTS && (flags & ZIP_RDONLY) != 0;
    reason = twice ? "two members have the same name" : zip_error_strerror(&error);
    zip_error_fini(&error);
  }
  return archive;
}

}  // namespace superstep::paramserver
