#include "cluster/standard_streams.h"

#include <cerrno>
#include <csignal>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

namespace superstep::cluster {

namespace {

bool reader_is_gone(int descriptor) {
  pollfd state{.fd = descriptor, .events = POLLOUT, .revents = 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & POLLERR) != 0;
}

}  // namespace

void open_missing_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) {
      // The lowest free number is this one. There is nobody to tell when it fails.
      static_cast<void>(::open("/dev/null", O_RDWR));
    }
  }
}

void survive_lost_readers() {
  std::signal(SIGPIPE, SIG_IGN);
}

void write_line(std::FILE* stream, std::string_view line) {
  const std::string text = fmt::format("{}\n", line);
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stream));
  static_cast<void>(std::fflush(stream));
}

std::optional<std::string> unwritten_output() {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  const int error = errno;
  if ((flushed && std::ferror(stdout) == 0) || reader_is_gone(STDOUT_FILENO)) {
    return std::nullopt;
  }
  return fmt::format(
      "standard output was not written completely{}",
      error == 0 ? std::string() : fmt::format(": {}", std::generic_category().message(error)));
}

}  // namespace superstep::cluster
