// Owns a POSIX file descriptor. Move-only; closes in its destructor and ignores the result: whoever
// needs to know whether data arrived calls fsync before.
//
//   FileDescriptor file(::open(path, O_RDONLY | O_CLOEXEC));
//   if (!file.is_open()) { ... errno ... }
#pragma once

#include <utility>

#include <unistd.h>

namespace superstep::internal {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      reset();
      descriptor_ = std::exchange(other.descriptor_, -1);
    }
    return *this;
  }
  ~FileDescriptor() { reset(); }

  bool is_open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  // Gives up ownership.
  int release() { return std::exchange(descriptor_, -1); }
  void reset() {
    if (is_open()) {
      ::close(release());
    }
  }

 private:
  int descriptor_ = -1;
};

}  // namespace superstep::internal
