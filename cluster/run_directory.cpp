#include "cluster/run_directory.h"

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;

// A word for a POSIX shell.
std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && text.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyz"
                                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_-./=:,+@%") == std::string::npos;
  if (plain) {
    return text;
  }
  std::string word = "'";
  for (const char c : text) {
    word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return word + "'";
}

// Whether a directory holds nothing but what open() of a run makes before its config.toml: such a
// run was killed before it began.
bool is_unbegun(const fs::path& root) {
  std::error_code error;
  for (fs::directory_iterator entry(root, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    const bool is_harmless =
        name == "provenance.json" || name == "launch" || is_temporary_name(name) ||
        (name == "checkpoints" && fs::is_empty(entry->path(), ignored) && !ignored);
    if (!is_harmless) {
      return false;
    }
  }
  return !error;
}

}  // namespace

void RunDirectory::require_new_or_empty(const Launch& launch) const {
  const PathStatus status = look_at(root_);
  std::error_code error;
  if (status.kind == PathKind::kMissing ||
      (status.kind == PathKind::kDirectory && is_unbegun(root_))) {
    return;
  }
  if (!status.exists()) {
    throw InvalidArgument("train", fmt::format("--out {}: {}", root_.string(), status.problem));
  }
  const bool is_run = look_at(config()).exists();
  throw InvalidArgument(
      "train", fmt::format("--out {} exists and is not an empty directory: {}", root_.string(),
                           is_run ? fmt::format("it holds a run. To continue that run:\n  {}",
                                                resume_command(launch))
                                  : "choose another directory"));
}

void RunDirectory::require_run() const {
  const PathStatus status = look_at(root_);
  if (status.kind != PathKind::kDirectory) {
    throw InvalidArgument(
        "run directory",
        fmt::format("{}: {}", root_.string(),
                    status.kind == PathKind::kUnknown ? status.problem : "no such directory"));
  }
  if (const PathStatus file = look_at(config()); !file.exists()) {
    throw InvalidArgument("run directory", fmt::format("{} is no run directory: config.toml: {}",
                                                       root_.string(), file.problem));
  }
}

RunConfig RunDirectory::read_config() const {
  return require_valid(cluster::read_config(config()));
}

void RunDirectory::create() const {
  make_directories(checkpoints());
  // Also when they were there: whoever made them may have died before their names were on disk.
  fsync_name(root_);
  fsync_name(checkpoints());
}

std::string RunDirectory::resume_command(const Launch& launch) const {
  const ParsedConfig parsed = cluster::read_config(config());
  const bool is_federated = parsed.problems.empty() && parsed.config.federated.rounds > 0;
  const std::string launcher =
      launch.num_processes > 1
          ? fmt::format("mpirun {}-n {} ", launch.oversubscribed ? "--oversubscribe " : "",
                        launch.num_processes)
          : "";
  return fmt::format("{}{} {} {} --out {} --resume", launcher, shell_word(launch.program),
                     is_federated ? "federated" : "train", shell_word(config().string()),
                     shell_word(root_.string()));
}

fs::path default_run_directory(const fs::path& config, std::chrono::system_clock::time_point now) {
  const std::string name = fmt::format("{}-{}", config.stem().string(), utc_compact(now));
  fs::path path = fs::path("runs") / name;
  for (int copy = 2; look_at(path).exists(); ++copy) {
    path = fs::path("runs") / fmt::format("{}-{}", name, copy);
  }
  return path;
}

RunLock::RunLock(const RunDirectory& run)
    : file_(::open(run.root().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (file_ < 0) {
    throw DataError(
        "train", run.root().string(), -1,
        fmt::format("cannot open the run directory: {}", std::generic_category().message(errno)),
        ExitCode::kFailure);
  }
  // Some network file systems have no flock; a run there is not protected rather than refused.
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(file_);
    throw InvalidArgument("train", fmt::format("{} is in use: another process is training this run",
                                               run.root().string()));
  }
}

RunLock::RunLock(RunLock&& other) noexcept : file_(std::exchange(other.file_, -1)) {}

RunLock::~RunLock() {
  if (file_ >= 0) {
    ::close(file_);
  }
}

}  // namespace superstep::cluster
