#include "cluster/launch_hosts.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file.h"
#include "cluster/launch_network.h"
#include "cluster/launch_text.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxHostfileBytes = std::int64_t{16} << 20;
constexpr int kMostBlame = 2;
constexpr int kMostSlots = 1 << 20;

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_hostfile_option(std::string_view word) {
  return is_one_of(word, {"--hostfile", "-hostfile", "--machinefile", "-machinefile",
                          "--default-hostfile", "-default-hostfile"});
}

bool is_host_option(std::string_view word) {
  return is_one_of(word, {"--host", "-host", "-H"});
}

bool is_count_option(std::string_view word) {
  return is_one_of(word, {"-n", "--n", "-np", "--np", "-c"});
}

int positive(std::string_view text, const std::string& where) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1 ||
      number > kMostSlots) {
    throw InvalidArgument(kLaunch, fmt::format("{}: got \"{}\", expected a number from 1 to {}",
                                               where, text, kMostSlots));
  }
  return number;
}

// mpirun's own recovery hides the death of a rank behind exit code 0.
void require_supervisable(const std::string& option, const std::string& value) {
  const bool recovery = is_one_of(option, {"--enable-recovery", "-enable-recovery", "--continuous",
                                           "--max-restarts", "-max-restarts"}) ||
                        is_one_of(value, {"orte_enable_recovery", "orte_max_restarts",
                                          "orte_abort_on_non_zero_status"});
  if (recovery) {
    throw InvalidArgument(kLaunch, fmt::format("{} cannot be used: with recovery by mpirun a dead "
                                               "rank goes unnoticed and the exit code is 0",
                                               value.empty() ? option : value));
  }
  if (option == ":") {
    throw InvalidArgument(kLaunch, "one program per job: got several, separated by \":\"");
  }
  if (is_one_of(option, {"--report-uri", "-report-uri"})) {
    throw InvalidArgument(kLaunch, "--report-uri cannot be used: the launcher needs it itself");
  }
}

const std::string& value_of(const std::vector<std::string>& words, std::size_t& i) {
  if (i + 1 >= words.size()) {
    throw InvalidArgument(kLaunch, fmt::format("{} needs a value", words[i]));
  }
  return words[++i];
}

Host host_of_line(const std::string& line, const std::string& where) {
  std::istringstream words(line);
  Host host{.name = {}, .slots = 0, .line = line};
  words >> host.name;
  if (host.name.empty() || host.name.find('=') != std::string::npos) {
    throw InvalidArgument(kLaunch, fmt::format("{}: got \"{}\", expected the name of a host first",
                                               where, host.name));
  }
  int max_slots = 0;
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (is_one_of(key, {"slots", "slot", "cpus", "count"})) {
      host.slots = positive(value, where + ": slots");
    } else if (is_one_of(key, {"max_slots", "max-slots"})) {
      max_slots = positive(value, where + ": max_slots");
    } else {
      throw InvalidArgument(
          kLaunch, fmt::format("{}: got \"{}\", expected slots=N or max_slots=N", where, word));
    }
  }
  if (max_slots != 0 && max_slots < host.slots) {
    throw InvalidArgument(kLaunch, fmt::format("{}: max_slots below slots: got {}, expected at "
                                               "least {}",
                                               where, max_slots, host.slots));
  }
  return host;
}

bool is_address(const std::string& name) {
  return name.find(':') != std::string::npos || parse_address(name);
}

// Two hosts of one name in two domains are two hosts.
bool is_same_name(const std::string& a, const std::string& b) {
  if (a == b || is_address(a) || is_address(b)) {
    return a == b;
  }
  const std::size_t domain_a = a.find('.');
  const std::size_t domain_b = b.find('.');
  const bool one_has_no_domain = domain_a == std::string::npos || domain_b == std::string::npos;
  return one_has_no_domain && a.substr(0, domain_a) == b.substr(0, domain_b);
}

}  // namespace

std::vector<Host> read_hostfile(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    throw InvalidArgument(kLaunch, fmt::format("host file {}: no such file", path.string()));
  }
  return parse_hostfile(read_text_file(path, kMaxHostfileBytes), path.string());
}

std::vector<Host> parse_hostfile(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  std::vector<Host> hosts;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line = line.substr(0, line.find('#'));
    while (!line.empty() && is_one_of(std::string_view(&line.back(), 1), {"\r", " ", "\t"})) {
      line.pop_back();
    }
    if (line.find_first_not_of(" \t") != std::string::npos) {
      hosts.push_back(host_of_line(line, fmt::format("{}:{}", name, number)));
    }
  }
  if (hosts.empty()) {
    throw InvalidArgument(kLaunch, fmt::format("host file {}: no host in it", name));
  }
  return hosts;
}

std::vector<Host> parse_host_list(const std::string& text) {
  std::vector<Host> hosts;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    const std::size_t colon = word.rfind(':');
    Host host{.name = word.substr(0, colon), .slots = 1, .line = word};
    if (host.name.empty()) {
      throw InvalidArgument(kLaunch, fmt::format("--host: got an empty name in \"{}\"", text));
    }
    if (colon != std::string::npos) {
      const std::string slots = word.substr(colon + 1);
      host.slots = slots == "*" ? 0 : positive(slots, fmt::format("--host {}", word));
    }
    hosts.push_back(std::move(host));
  }
  if (hosts.empty()) {
    throw InvalidArgument(kLaunch, "--host: no host is named");
  }
  return hosts;
}

HostPlan HostPlan::from_options(const std::vector<std::string>& mpirun_options) {
  HostPlan plan;
  for (std::size_t i = 0; i < mpirun_options.size(); ++i) {
    const std::string& option = mpirun_options[i];
    const bool is_parameter = is_one_of(option, {"--mca", "-mca", "--omca", "--gmca", "-gmca"});
    require_supervisable(
        option, is_parameter && i + 1 < mpirun_options.size() ? mpirun_options[i + 1] : "");
    if (is_count_option(option)) {
      plan.num_processes_ = positive(value_of(mpirun_options, i), option);
    } else if (is_hostfile_option(option) || is_host_option(option)) {
      if (plan.source_ != Source::kNone) {
        throw InvalidArgument(kLaunch, fmt::format("hosts are named twice: by {} and by {}",
                                                   plan.source_option_, option));
      }
      plan.source_ = is_host_option(option) ? Source::kHostList : Source::kHostfile;
      plan.source_option_ = option;
      plan.source_value_ = value_of(mpirun_options, i);
      plan.hosts_ = plan.source_ == Source::kHostList ? parse_host_list(plan.source_value_)
                                                      : read_hostfile(plan.source_value_);
    } else {
      plan.other_options_.push_back(option);
    }
  }
  plan.num_hosts_ = plan.hosts_.size();
  return plan;
}

std::optional<int> HostPlan::num_processes() const {
  if (!changed_ || !num_processes_) {
    return num_processes_;
  }
  if (slots() > 0) {
    return std::min(*num_processes_, slots());
  }
  const std::int64_t share = std::int64_t{*num_processes_} *
                             static_cast<std::int64_t>(hosts_.size()) /
                             static_cast<std::int64_t>(num_hosts_);
  return static_cast<int>(std::max<std::int64_t>(share, 1));
}

std::optional<std::string> HostPlan::find(const std::string& host,
                                          std::span<const std::uint32_t> addresses) const {
  for (const Host& other : hosts_) {
    if (is_same_name(other.name, host)) {
      return other.name;
    }
  }
  for (const Host& other : hosts_) {
    const auto own = addresses.empty() ? std::nullopt
                                       : addresses_of(std::span<const std::string>(&other.name, 1));
    if (own && std::find(addresses.begin(), addresses.end(), own->front()) != addresses.end()) {
      return other.name;
    }
  }
  return std::nullopt;
}

int HostPlan::slots() const {
  std::int64_t sum = 0;
  for (const Host& host : hosts_) {
    if (host.slots == 0) {
      return 0;
    }
    sum += host.slots;
  }
  return static_cast<int>(std::min<std::int64_t>(sum, std::numeric_limits<int>::max()));
}

bool HostPlan::blame(const std::string& host) {
  if (++blamed_[host] < kMostBlame) {
    return false;
  }
  const auto is_blamed = [&](const Host& other) { return other.name == host; };
  const auto remaining = hosts_.size() - static_cast<std::size_t>(std::count_if(
                                             hosts_.begin(), hosts_.end(), is_blamed));
  if (remaining == 0 || remaining == hosts_.size()) {
    return false;
  }
  std::erase_if(hosts_, is_blamed);
  changed_ = true;
  return true;
}

std::vector<std::string> HostPlan::options(const fs::path& hostfile) const {
  std::vector<std::string> words;
  if (const std::optional<int> processes = num_processes()) {
    words.insert(words.end(), {"-n", std::to_string(*processes)});
  }
  if (source_ != Source::kNone && !changed_) {
    words.insert(words.end(), {source_option_, source_value_});
  } else if (source_ != Source::kNone) {
    std::string text;
    for (const Host& host : hosts_) {
      const bool is_list = source_ == Source::kHostList;
      text += (text.empty() || !is_list ? "" : ",") + host.line + (is_list ? "" : "\n");
    }
    if (source_ == Source::kHostfile) {
      write_file_atomically(hostfile, text);
      text = hostfile.string();
    }
    words.insert(words.end(), {source_option_, text});
  }
  words.insert(words.end(), other_options_.begin(), other_options_.end());
  return words;
}

}  // namespace superstep::cluster
