#include "cluster/process_table.h"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include <fmt/format.h>

namespace superstep::cluster {

std::optional<RunningProcess> find_running(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(") ");  // "17 (name) S 1 ..."
  if (name_end == std::string::npos) {
    return std::nullopt;
  }
  std::istringstream fields(text.substr(name_end + 2));
  char state = 'Z';
  RunningProcess process;
  fields >> state >> process.parent;
  constexpr int kBetween = 17;  // proc(5): fields 5 to 21
  for (int i = 0; i < kBetween; ++i) {
    std::string skipped;
    fields >> skipped;
  }
  fields >> process.started;
  return state == 'Z' ? std::nullopt : std::optional(process);
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> pids;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc", error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    pid_t pid = 0;
    const auto [stop, failure] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failure == std::errc() && stop == name.data() + name.size()) {
      pids.push_back(pid);
    }
  }
  return pids;
}

}  // namespace superstep::cluster
