#include "bsp/environment.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "base/env.h"
#include "base/error.h"
#include "bsp/job.h"
#include "bsp/mpi/mpi_session.h"
#include "bsp/node_transport.h"
#include "bsp/world.h"
#include "bsp/world_state.h"

namespace superstep::bsp {

namespace {

// Processes start within seconds of each other; a set-up that takes longer has lost one.
constexpr std::int64_t kSetupDeadlineSeconds = 120;
constexpr std::int64_t kMaxSetupDeadlineSeconds = 1'000'000;
constexpr const char* kSetupDeadlineVariable = "SUPERSTEP_SETUP_DEADLINE_SECONDS";
// The lowest process that waits speaks for all; the others end the job when it does not.
constexpr std::chrono::seconds kOneSpeaks{3};

std::chrono::milliseconds setup_deadline() {
  const std::int64_t seconds =
      environment_integer(kSetupDeadlineVariable).value_or(kSetupDeadlineSeconds);
  if (seconds < 1 || seconds > kMaxSetupDeadlineSeconds) {
    throw InvalidArgument(
        "Environment", fmt::format("{}: got {}, expected 1 to {}", kSetupDeadlineVariable, seconds,
                                   kMaxSetupDeadlineSeconds));
  }
  return std::chrono::seconds(seconds);
}

void print_error(const std::string& text) {
  const std::string line = text + "\n";  // one write, so that lines of several ranks do not mix
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

std::string describe_options(const EnvironmentOptions& options) {
  return fmt::format("lanes {}, ranks per node {}, sync deadline {} ms, collective checks {}",
                     options.lanes, options.ranks_per_node, options.sync_deadline.count(),
                     options.checks == CollectiveChecks::kEveryCall ? "at every call" : "at sync");
}

}  // namespace

struct Environment::State {
  std::chrono::milliseconds deadline = setup_deadline();
  std::unique_ptr<internal::MpiSession> session;  // null: one process, no MPI
  std::unique_ptr<internal::Transport> setup;     // over all processes

  std::vector<int> machines() const {
    return session ? session->machine_of() : std::vector<int>{0};
  }
  std::vector<std::string> hosts() const {
    return session ? session->host_of() : std::vector<std::string>{"localhost"};
  }

  // Every process's text, in process order. Does not return when a process is lost: the job ends.
  std::vector<std::string> gather(std::string_view mine) const;
  std::string describe_silent(const internal::DeadlinePassed& passed) const;
  [[noreturn]] void end_job(const std::string& message, ExitCode exit_code) const;
  // The context of the world to be made; nullopt when processes were started with different
  // options, which the root has then reported.
  std::optional<std::uint32_t> agree_on_options(Environment& environment,
                                                const EnvironmentOptions& options) const;
  internal::SharedMapping map_for_node(const internal::NodeProcesses& node,
                                       std::int64_t num_bytes) const;
  std::unique_ptr<internal::StatusBoard> make_board(const internal::Topology& topology,
                                                    const internal::NodeProcesses& node) const;
  std::unique_ptr<internal::Transport> make_transport(const internal::NodeProcesses& node,
                                                      std::uint32_t context) const;
};

std::vector<std::string> Environment::State::gather(std::string_view mine) const {
  const internal::Failure none;
  const internal::WaitPolicy policy{.failure = &none, .oversubscribed = true};
  internal::Patience patience(policy, deadline);
  try {
    return internal::allgather_texts(*setup, mine, patience);
  } catch (const internal::DeadlinePassed& passed) {
    const std::vector<int>& silent = passed.silent_processes;
    int speaker = 0;
    while (std::find(silent.begin(), silent.end(), speaker) != silent.end()) {
      ++speaker;
    }
    if (setup->process() != speaker) {
      std::this_thread::sleep_for(kOneSpeaks);
    }
    end_job(describe_silent(passed), ExitCode::kStoppedResumable);
  } catch (const CommunicationError& error) {
    end_job(error.what(), error.exit_code());
  }
}

std::string Environment::State::describe_silent(const internal::DeadlinePassed& passed) const {
  std::string silent;
  for (const int process : passed.silent_processes) {
    silent += fmt::format("{}process {} on {}", silent.empty() ? "" : ", ", process,
                          hosts()[static_cast<std::size_t>(process)]);
  }
  return fmt::format(
      "[Environment] set-up: waited {} s for {}, which is lost, stopped, or still reading its "
      "input. Start the same command again; if its input takes longer to read, set {}",
      std::chrono::duration_cast<std::chrono::seconds>(passed.waited).count(),
      silent.empty() ? "messages of other processes" : silent, kSetupDeadlineVariable);
}

void Environment::State::end_job(const std::string& message, ExitCode exit_code) const {
  print_error(message);
  SUPERSTEP_CHECK(session != nullptr, "one process waits for nobody");
  session->abort(exit_code);
}

std::optional<std::uint32_t> Environment::State::agree_on_options(
    Environment& environment, const EnvironmentOptions& options) const {
  const std::vector<std::string> all =
      gather(fmt::format("{}\n{}", describe_options(options), setup->reserve_context()));
  const auto options_of = [&](std::size_t process) {
    return all[process].substr(0, all[process].find('\n'));
  };
  for (std::size_t process = 1; process < all.size(); ++process) {
    if (options_of(process) != options_of(0)) {
      environment.agree_on_setup(fmt::format(
          "[Environment::run] processes were started with different options: got \"{}\" on "
          "process {}, expected \"{}\" as on process 0",
          options_of(process), process, options_of(0)));
      return std::nullopt;
    }
  }
  return static_cast<std::uint32_t>(std::stoul(all[0].substr(all[0].find('\n') + 1)));
}

// Memory of the processes of this node, made by the first of them. Collective over all processes.
internal::SharedMapping Environment::State::map_for_node(const internal::NodeProcesses& node,
                                                         std::int64_t num_bytes) const {
  internal::SharedMapping mapping;
  std::string name;
  const bool alone = node.members.size() == 1;
  if (node.member == 0) {
    internal::remove_stale_shared();
    name = alone ? "" : internal::unique_shared_name();
    mapping = alone ? internal::SharedMapping::anonymous(num_bytes)
                    : internal::SharedMapping::create(name, num_bytes);
  }
  const std::vector<std::string> names = gather(name);
  if (node.member != 0) {
    mapping = internal::SharedMapping::open(names[static_cast<std::size_t>(node.members.front())],
                                            num_bytes);
  }
  gather("");  // all have mapped it
  internal::unlink_shared(name);
  return mapping;
}

// The processes of a node share a board; with ranks_per_node = 1 each has its own, as on machines
// of their own.
std::unique_ptr<internal::StatusBoard> Environment::State::make_board(
    const internal::Topology& topology, const internal::NodeProcesses& node) const {
  std::vector<bool> visible;
  for (int process = 0; process < setup->num_processes(); ++process) {
    const bool same = std::binary_search(node.members.begin(), node.members.end(), process);
    visible.insert(visible.end(),
                   topology.ranks_of_process[static_cast<std::size_t>(process)].size(), same);
  }
  return std::make_unique<internal::StatusBoard>(
      map_for_node(node, internal::StatusBoard::bytes_for(topology.size())), std::move(visible));
}

std::unique_ptr<internal::Transport> Environment::State::make_transport(
    const internal::NodeProcesses& node, std::uint32_t context) const {
  if (!session) {
    return internal::single_process_transport();
  }
  auto transport = session->transport(context);
  if (std::cmp_equal(node.leaders.size(), setup->num_processes())) {
    return transport;  // no two processes share a node
  }
  const auto members = static_cast<int>(node.members.size());
  return internal::node_transport(std::move(transport), node,
                                  map_for_node(node, internal::NodeBarrier::bytes_for(members)),
                                  context);
}

Environment::Environment() : state_(std::make_unique<State>()) {
  if (internal::MpiSession::launched()) {
    state_->session = std::make_unique<internal::MpiSession>();
    state_->setup = state_->session->transport(0);
  } else {
    state_->setup = internal::single_process_transport();
  }
}

Environment::~Environment() = default;

bool Environment::launched_by_mpirun() {
  return internal::MpiSession::launched();
}

bool Environment::under_mpirun() const {
  return state_->session != nullptr;
}
int Environment::process() const {
  return state_->setup->process();
}
int Environment::num_processes() const {
  return state_->setup->num_processes();
}

std::string Environment::mpi_library() const {
  return state_->session ? state_->session->library() : std::string();
}

bool Environment::agree_on_setup(const std::optional<std::string>& failure) {
  const std::vector<std::string> all = state_->gather(failure ? "!" + *failure : "");
  std::map<std::string, std::vector<int>> processes_of;
  for (std::size_t process = 0; process < all.size(); ++process) {
    if (!all[process].empty()) {
      processes_of[all[process].substr(1)].push_back(static_cast<int>(process));
    }
  }
  for (const auto& [message, processes] : processes_of) {
    if (is_root_process()) {
      const bool everywhere = processes.size() == all.size();
      print_error(everywhere ? message
                             : fmt::format("[processes {}] {}", internal::describe_ranks(processes),
                                           message));
    }
  }
  return processes_of.empty();
}

int Environment::run(const EnvironmentOptions& options, const std::function<void(World&)>& body) {
  const std::optional<std::uint32_t> context = state_->agree_on_options(*this, options);
  if (!context) {
    return static_cast<int>(ExitCode::kUsage);
  }
  internal::Job::Parts parts;
  parts.options = options;
  parts.context = *context;
  std::optional<std::string> failure;
  try {
    parts.topology = std::make_shared<const internal::Topology>(internal::root_topology(
        state_->machines(), state_->hosts(), options.lanes, options.ranks_per_node));
  } catch (const Error& error) {
    failure = error.what();
  }
  if (!agree_on_setup(failure)) {
    return static_cast<int>(ExitCode::kUsage);
  }
  const internal::NodeProcesses node = internal::node_processes(*parts.topology, process());
  parts.board = state_->make_board(*parts.topology, node);
  parts.all_processes = state_->setup.get();
  parts.transport = state_->make_transport(node, *context);
  if (state_->session) {
    parts.abort = [this](ExitCode exit_code) { state_->session->abort(exit_code); };
  }
  internal::Job job(std::move(parts));
  return static_cast<int>(job.run(body));
}

}  // namespace superstep::bsp
