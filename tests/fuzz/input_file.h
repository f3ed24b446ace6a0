// A fuzz input as a file: for readers that take a path. The file lies in memory and is reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "base/file_descriptor.h"

namespace superstep::testing {

class InputFile {
 public:
  InputFile() : file_(::memfd_create("superstep-fuzz", MFD_CLOEXEC)) {}

  // The path of a file that holds exactly these bytes, until the next call.
  std::filesystem::path hold(const std::uint8_t* data, std::size_t size) {
    const bool written = ::ftruncate(file_.get(), 0) == 0 &&
                         ::pwrite(file_.get(), data, size, 0) == static_cast<ssize_t>(size);
    if (!written) {
      throw std::runtime_error("cannot write a file in memory");
    }
    return "/proc/self/fd/" + std::to_string(file_.get());
  }

 private:
  internal::FileDescriptor file_;
};

}  // namespace superstep::testing
