#include "cluster/launch_leftovers.h"

#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "base/env.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;

// Of this user alone.
bool is_own(const fs::path& path) {
  std::error_code error;
  return ::access(path.c_str(), W_OK) == 0 && fs::exists(path, error);
}

template <typename IsLeftover>
void remove_in(const fs::path& directory, const IsLeftover& is_leftover,
               std::vector<std::string>& removed) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_leftover(entry->path().filename().string()) && is_own(entry->path())) {
      found.push_back(entry->path());
    }
  }
  for (const fs::path& path : found) {
    std::error_code failure;
    if (fs::remove_all(path, failure) > 0 && !failure) {
      removed.push_back(path.string());
    }
  }
}

fs::path temporary_directory() {
  for (const char* name : {"TMPDIR", "TEMP", "TMP"}) {
    if (const std::optional<std::string> path = environment_variable(name);
        path && !path->empty()) {
      return *path;
    }
  }
  return "/tmp";
}

// <tmp>/ompi.<host>.<user>/pid.<mpirun>, and the directory above when it is empty then.
void remove_session(pid_t mpirun, std::vector<std::string>& removed) {
  const std::string session = fmt::format("pid.{}", mpirun);
  const std::string user = fmt::format(".{}", ::getuid());
  std::error_code error;
  std::vector<fs::path> tops;
  for (fs::directory_iterator entry(temporary_directory(), error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("ompi.") && name.ends_with(user)) {
      tops.push_back(entry->path());
    }
  }
  for (const fs::path& top : tops) {
    remove_in(
        top, [&](const std::string& name) { return name == session; }, removed);
    std::error_code not_empty;
    fs::remove(top, not_empty);
  }
}

std::string hostfile_prefix(pid_t launcher) {
  return fmt::format("superstep-hosts-{}-", launcher);
}

}  // namespace

std::filesystem::path hostfile_of(pid_t launcher, std::int64_t attempt) {
  return temporary_directory() / fmt::format("{}{}", hostfile_prefix(launcher), attempt);
}

void remove_hostfiles(pid_t launcher) {
  const std::string prefix = hostfile_prefix(launcher);
  std::vector<std::string> removed;
  remove_in(
      temporary_directory(), [&](const std::string& name) { return name.starts_with(prefix); },
      removed);
}

std::vector<std::string> remove_leftovers(std::optional<std::uint32_t> daemon_job, pid_t mpirun) {
  std::vector<std::string> removed;
  if (daemon_job) {
    const std::uint32_t job = *daemon_job + 1;
    const std::string ours = fmt::format("superstep-{}-", job);
    const std::string theirs = fmt::format(".{:x}.", job);
    remove_in(
        "/dev/shm",
        [&](const std::string& name) {
          return name.starts_with(ours) ||
                 (name.starts_with("vader_segment.") && name.find(theirs) != std::string::npos);
        },
        removed);
  }
  remove_session(mpirun, removed);
  return removed;
}

}  // namespace superstep::cluster
