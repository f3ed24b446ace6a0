// The hosts of a supervised job: read from mpirun's options, and left out when they fail.
//
// Understands --hostfile (and its other spellings) and --host; the options are rewritten for every
// attempt. Without either the job runs where mpirun puts it, and no host can be left out.
//
//   HostPlan plan = HostPlan::from_options({"-n", "4", "--host", "a:2,b:2"});
//   plan.blame("b"); plan.blame("b");          // named twice: left out
//   plan.options(file)                         // -n 2 --host a:2
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace superstep::cluster {

struct Host {
  std::string name;
  int slots = 0;     // 0: not stated
  std::string line;  // as mpirun reads it, in a host file or in --host
};

// The lines of a host file. Throws InvalidArgument with file and line: empty file, slots that are
// no positive number, max_slots below slots, unknown words.
std::vector<Host> read_hostfile(const std::filesystem::path& path);
// The same for its text; `name` is that of the file, in messages.
std::vector<Host> parse_hostfile(const std::string& text, const std::string& name);
// "a:2,b": of --host.
std::vector<Host> parse_host_list(const std::string& text);

class HostPlan {
 public:
  // Throws InvalidArgument for options that a supervised job cannot have: several programs (":"),
  // recovery by mpirun, a hostfile that does not exist or is wrong.
  static HostPlan from_options(const std::vector<std::string>& mpirun_options);

  // The host's name as the user gave it: mpirun strips domains, and ranks call a host as it calls
  // itself. `addresses`: of the named host, as far as they are known; compared with what the name
  // service says of the remaining hosts when no name fits. nullopt: it is none of them.
  std::optional<std::string> find(const std::string& host,
                                  std::span<const std::uint32_t> addresses) const;

  // A host, by its name as given, that was named as the culprit. Returns true when it is left out
  // from now on: named twice, and another host remains.
  bool blame(const std::string& host);

  // mpirun's options for the next attempt. When hosts were left out, the remaining ones are written
  // to `hostfile` (or stay in --host), and the number of processes is lowered to their slots, or to
  // their share of the hosts when some do not state their slots.
  std::vector<std::string> options(const std::filesystem::path& hostfile) const;

  const std::vector<Host>& hosts() const { return hosts_; }
  std::optional<int> num_processes() const;

 private:
  enum class Source { kNone, kHostfile, kHostList };

  int slots() const;  // of the remaining hosts; 0: some do not state them

  std::vector<std::string> other_options_;
  Source source_ = Source::kNone;
  std::string source_option_;  // "--hostfile" or "--host", as given
  std::string source_value_;
  std::vector<Host> hosts_;    // that remain
  std::size_t num_hosts_ = 0;  // at first
  bool changed_ = false;
  std::optional<int> num_processes_;
  std::map<std::string, int> blamed_;
};

}  // namespace superstep::cluster
