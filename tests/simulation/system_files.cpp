// The system calls that touch files, for paths on the simulated disk. All others go to the system.

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/simulation/real_function.h"
#include "tests/simulation/simulation.h"

namespace {

using superstep::simulation::Disk;
using superstep::simulation::kRoot;
using superstep::simulation::RealFunction;
using superstep::simulation::Simulation;

bool is_below_root(std::string_view path) {
  constexpr std::string_view root(kRoot);
  return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
}

// Null: the path lies elsewhere.
Disk* disk_of(int directory, const char* path) {
  Simulation* simulation = Simulation::current();
  const bool here = is_below_root(path) || (path[0] != '/' && directory >= Disk::kFirstDescriptor);
  return simulation != nullptr && here ? &simulation->disk() : nullptr;
}
Disk* disk_of(const char* path) {
  return disk_of(AT_FDCWD, path);
}
Disk* disk_of(int descriptor) {
  Simulation* simulation = Simulation::current();
  return simulation != nullptr && descriptor >= Disk::kFirstDescriptor ? &simulation->disk()
                                                                       : nullptr;
}

// Before a call that changes something: others may come first, or the rank may die here.
Disk& changing(Disk& disk) {
  if (Simulation* simulation = Simulation::current(); simulation->scheduler().in_task()) {
    simulation->scheduler().before_disk_call();
  }
  return disk;
}

template <typename Integer>
Integer result_of(Integer value) {
  if (value < 0) {
    errno = static_cast<int>(-value);
    return -1;
  }
  return value;
}

// What stands behind a DIR* of the simulated disk.
struct Listing {
  int descriptor = -1;
  std::vector<std::string> names;
  std::size_t next = 0;
  dirent entry{};
};

std::vector<std::unique_ptr<Listing>>& listings() {
  static std::vector<std::unique_ptr<Listing>> open;
  return open;
}

Listing* listing_of(DIR* directory) {
  for (const std::unique_ptr<Listing>& listing : listings()) {
    if (reinterpret_cast<DIR*>(listing.get()) == directory) {
      return listing.get();
    }
  }
  return nullptr;
}

// The standard library's file streams stand on a FILE*, of which they use the descriptor. That of a
// file on the simulated disk is one of /dev/null, and stands for another descriptor.
std::map<int, int>& stream_descriptors() {
  static std::map<int, int> descriptors;
  return descriptors;
}

int behind_stream(int descriptor) {
  const std::map<int, int>& all = stream_descriptors();
  if (all.empty()) {
    return descriptor;
  }
  const auto found = all.find(descriptor);
  return found == all.end() ? descriptor : found->second;
}

int flags_of(std::string_view mode) {
  if (mode.starts_with("r")) {
    return mode.find('+') == std::string_view::npos ? O_RDONLY : O_RDWR;
  }
  return O_WRONLY | O_CREAT | (mode.starts_with("w") ? O_TRUNC : 0);
}

mode_t mode_argument(int flags, va_list list) {
  return (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
}

int open_on(Disk& disk, int directory, const char* path, int flags) {
  return result_of(((flags & O_CREAT) != 0 ? changing(disk) : disk).open(directory, path, flags));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  static const RealFunction<decltype(open)> real("open");
  va_list list;
  va_start(list, flags);
  const mode_t mode = mode_argument(flags, list);
  va_end(list);
  Disk* disk = disk_of(path);
  return disk == nullptr ? real(path, flags, mode) : open_on(*disk, AT_FDCWD, path, flags);
}

int openat(int directory, const char* path, int flags, ...) {
  static const RealFunction<decltype(openat)> real("openat");
  va_list list;
  va_start(list, flags);
  const mode_t mode = mode_argument(flags, list);
  va_end(list);
  Disk* disk = disk_of(directory, path);
  return disk == nullptr ? real(directory, path, flags, mode)
                         : open_on(*disk, directory, path, flags);
}

int close(int descriptor) {
  static const RealFunction<decltype(close)> real("close");
  Disk* disk = disk_of(descriptor);
  return disk == nullptr ? real(descriptor) : result_of(disk->close(descriptor));
}

ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
  static const RealFunction<decltype(pread)> real("pread");
  Disk* disk = disk_of(descriptor);
  return disk == nullptr ? real(descriptor, bytes, count, offset)
                         : result_of<ssize_t>(disk->read(descriptor, offset,
                                                         static_cast<std::byte*>(bytes), count));
}

ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  static const RealFunction<decltype(pwrite)> real("pwrite");
  Disk* disk = disk_of(descriptor);
  return disk == nullptr ? real(descriptor, bytes, count, offset)
                         : result_of<ssize_t>(changing(*disk).write(
                               descriptor, offset, static_cast<const std::byte*>(bytes), count));
}

ssize_t read(int descriptor, void* bytes, size_t count) {
  static const RealFunction<decltype(read)> real("read");
  const int behind = behind_stream(descriptor);
  Disk* disk = disk_of(behind);
  return disk == nullptr
             ? real(descriptor, bytes, count)
             : result_of<ssize_t>(disk->read_next(behind, static_cast<std::byte*>(bytes), count));
}

ssize_t write(int descriptor, const void* bytes, size_t count) {
  static const RealFunction<decltype(write)> real("write");
  const int behind = behind_stream(descriptor);
  Disk* disk = disk_of(behind);
  return disk == nullptr ? real(descriptor, bytes, count)
                         : result_of<ssize_t>(changing(*disk).write_next(
                               behind, static_cast<const std::byte*>(bytes), count));
}

// One piece at a time, as the system may.
ssize_t writev(int descriptor, const iovec* pieces, int count) {
  static const RealFunction<decltype(writev)> real("writev");
  if (disk_of(behind_stream(descriptor)) == nullptr) {
    return real(descriptor, pieces, count);
  }
  const iovec* const end = pieces + count;
  const iovec* const piece =
      std::find_if(pieces, end, [](const iovec& candidate) { return candidate.iov_len > 0; });
  return piece == end ? 0 : write(descriptor, piece->iov_base, piece->iov_len);
}

FILE* fopen64(const char* path, const char* mode) {
  static const RealFunction<decltype(fopen64)> real("fopen64");
  Disk* disk = disk_of(path);
  if (disk == nullptr) {
    return real(path, mode);
  }
  const int descriptor = open_on(*disk, AT_FDCWD, path, flags_of(mode));
  if (descriptor < 0) {
    return nullptr;
  }
  FILE* stream = real("/dev/null", mode);
  stream_descriptors()[fileno(stream)] = descriptor;
  return stream;
}

int fclose(FILE* stream) {
  static const RealFunction<decltype(fclose)> real("fclose");
  if (const auto found = stream_descriptors().find(fileno(stream));
      found != stream_descriptors().end()) {
    disk_of(found->second)->close(found->second);
    stream_descriptors().erase(found);
  }
  return real(stream);
}

int ftruncate(int descriptor, off_t length) noexcept {
  static const RealFunction<decltype(ftruncate)> real("ftruncate");
  Disk* disk = disk_of(descriptor);
  return disk == nullptr ? real(descriptor, length)
                         : result_of(changing(*disk).resize(descriptor, length));
}

// Returns the error.
int posix_fallocate(int descriptor, off_t offset, off_t length) {
  static const RealFunction<decltype(posix_fallocate)> real("posix_fallocate");
  Disk* disk = disk_of(descriptor);
  return disk == nullptr ? real(descriptor, offset, length)
                         : -changing(*disk).reserve(descriptor, offset + length);
}

int fsync(int descriptor) {
  static const RealFunction<decltype(fsync)> real("fsync");
  Disk* disk = disk_of(descriptor);
  return disk == nullptr ? real(descriptor) : result_of(changing(*disk).sync(descriptor));
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const RealFunction<decltype(mkdir)> real("mkdir");
  Disk* disk = disk_of(path);
  return disk == nullptr ? real(path, mode) : result_of(changing(*disk).make_directory(path));
}

int rename(const char* from, const char* to) noexcept {
  static const RealFunction<int(const char*, const char*)> real("rename");
  Disk* disk = disk_of(from);
  return disk == nullptr ? real(from, to) : result_of(changing(*disk).rename(from, to));
}

int unlinkat(int directory, const char* path, int flags) noexcept {
  static const RealFunction<decltype(unlinkat)> real("unlinkat");
  Disk* disk = disk_of(directory, path);
  return disk == nullptr ? real(directory, path, flags)
                         : result_of(changing(*disk).unlink(directory, path, flags));
}

int remove(const char* path) noexcept {
  static const RealFunction<int(const char*)> real("remove");
  Disk* disk = disk_of(path);
  if (disk == nullptr) {
    return real(path);
  }
  const int status = changing(*disk).unlink(AT_FDCWD, path, 0);
  return result_of(status == -EISDIR ? disk->unlink(AT_FDCWD, path, AT_REMOVEDIR) : status);
}

int stat(const char* path, struct stat* status) noexcept {
  static const RealFunction<int(const char*, struct stat*)> real("stat");
  Disk* disk = disk_of(path);
  return disk == nullptr ? real(path, status) : result_of(disk->status(AT_FDCWD, path, status));
}

// The disk has no links.
int lstat(const char* path, struct stat* status) noexcept {
  static const RealFunction<int(const char*, struct stat*)> real("lstat");
  Disk* disk = disk_of(path);
  return disk == nullptr ? real(path, status) : result_of(disk->status(AT_FDCWD, path, status));
}

int fstat(int descriptor, struct stat* status) noexcept {
  static const RealFunction<int(int, struct stat*)> real("fstat");
  Disk* disk = disk_of(descriptor);
  return disk == nullptr ? real(descriptor, status) : result_of(disk->status(descriptor, status));
}

int statvfs(const char* path, struct statvfs* status) noexcept {
  static const RealFunction<int(const char*, struct statvfs*)> real("statvfs");
  Disk* disk = disk_of(path);
  if (disk == nullptr) {
    return real(path, status);
  }
  struct stat there {};
  *status = {};
  status->f_frsize = 4096;
  status->f_bavail = 1 << 20;
  return result_of(disk->status(AT_FDCWD, path, &there));
}

DIR* fdopendir(int descriptor) {
  static const RealFunction<decltype(fdopendir)> real("fdopendir");
  Disk* disk = disk_of(descriptor);
  if (disk == nullptr) {
    return real(descriptor);
  }
  listings().push_back(std::make_unique<Listing>());
  listings().back()->descriptor = descriptor;
  listings().back()->names = disk->names(descriptor);
  return reinterpret_cast<DIR*>(listings().back().get());
}

dirent* readdir(DIR* directory) {
  static const RealFunction<decltype(readdir)> real("readdir");
  Listing* listing = listing_of(directory);
  if (listing == nullptr) {
    return real(directory);
  }
  if (listing->next == listing->names.size()) {
    return nullptr;
  }
  const std::string& name = listing->names[listing->next++];
  struct stat status {};  // stays zero, DT_UNKNOWN, when the name is gone by now
  disk_of(listing->descriptor)->status(listing->descriptor, name, &status);
  listing->entry.d_ino = status.st_ino;
  listing->entry.d_type = static_cast<unsigned char>(IFTODT(status.st_mode));
  std::strncpy(listing->entry.d_name, name.c_str(), sizeof listing->entry.d_name - 1);
  return &listing->entry;
}

int dirfd(DIR* directory) noexcept {
  static const RealFunction<decltype(dirfd)> real("dirfd");
  const Listing* listing = listing_of(directory);
  return listing == nullptr ? real(directory) : listing->descriptor;
}

int closedir(DIR* directory) {
  static const RealFunction<decltype(closedir)> real("closedir");
  const Listing* listing = listing_of(directory);
  if (listing == nullptr) {
    return real(directory);
  }
  const int status = close(listing->descriptor);
  std::erase_if(listings(), [&](const auto& open) { return open.get() == listing; });
  return status;
}

}  // extern "C"
