#include "tests/simulation/seeds.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <exception>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"

namespace superstep::simulation {

namespace {

constexpr std::uint64_t kSeedsPerProcess = 40;
// A seed takes tens of milliseconds; a simulated job that hangs ends by its number of points.
constexpr unsigned kSecondsPerSeed = 60;
constexpr char kBegin = 'b';
constexpr char kFail = 'f';

Problem run_one(const Scenario& scenario, std::uint64_t seed) {
  try {
    return scenario.run(seed);
  } catch (const std::exception& error) {
    return fmt::format("an exception left the scenario: {}", error.what());
  }
}

// One line per event, to a pipe that nobody else writes to.
void tell(int pipe, char event, std::uint64_t seed, std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  const std::string line = fmt::format("{}{} {}\n", event, seed, text);
  SUPERSTEP_CHECK(::write(pipe, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
}

[[noreturn]] void run_in_child(const Scenario& scenario, std::uint64_t begin, std::uint64_t end,
                               int pipe, bool is_quiet) {
  if (is_quiet) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, STDERR_FILENO);
  }
  for (std::uint64_t seed = begin; seed < end; ++seed) {
    tell(pipe, kBegin, seed, "");
    ::alarm(kSecondsPerSeed);
    if (const Problem problem = run_one(scenario, seed); problem.has_value()) {
      tell(pipe, kFail, seed, *problem);
    }
  }
  ::_exit(0);
}

std::string read_all(int pipe) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t count = 1; count > 0;) {
    count = ::read(pipe, buffer.data(), buffer.size());
    text.append(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  }
  return text;
}

std::string explain_death(int status) {
  return WIFSIGNALED(status)
             ? fmt::format("the process was ended by signal {}", WTERMSIG(status))
             : fmt::format("the process ended with exit code {}", WEXITSTATUS(status));
}

// Adds what a process told; returns the seed after the last one that it began.
std::uint64_t add_events(const std::string& text, std::uint64_t begin, SeedReport& report) {
  std::uint64_t next = begin;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    std::uint64_t seed = 0;
    const char* rest = std::from_chars(line.data() + 1, line.data() + line.size(), seed).ptr;
    if (line[0] == kBegin) {
      ++report.num_run;
      next = seed + 1;
    } else {
      report.failures.push_back({.seed = seed, .problem = std::string(rest + 1)});
    }
    at = end + 1;
  }
  return next;
}

// Some seeds from `begin` on, in a process of their own; returns where to go on: at least one seed
// further, also when the process died before it began one.
std::uint64_t run_some(const Scenario& scenario, std::uint64_t begin, std::uint64_t end,
                       bool is_quiet, SeedReport& report) {
  std::array<int, 2> pipe{};
  SUPERSTEP_CHECK(::pipe(pipe.data()) == 0);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  SUPERSTEP_CHECK(child >= 0);
  if (child == 0) {
    ::close(pipe[0]);
    run_in_child(scenario, begin, end, pipe[1], is_quiet);
  }
  ::close(pipe[1]);
  const std::uint64_t next = std::max(add_events(read_all(pipe[0]), begin, report), begin + 1);
  ::close(pipe[0]);
  int status = 0;
  SUPERSTEP_CHECK(::waitpid(child, &status, 0) == child);
  if (status != 0) {
    report.failures.push_back({.seed = next - 1, .problem = explain_death(status)});
  }
  return next;
}

}  // namespace

const Scenario* find_scenario(std::string_view name) {
  const std::span<const Scenario> all = all_scenarios();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Scenario& scenario) { return scenario.name == name; });
  return found == all.end() ? nullptr : &*found;
}

SeedReport run_seeds(const Scenario& scenario, std::uint64_t begin, std::uint64_t end) {
  SeedReport report{.scenario = std::string(scenario.name), .num_run = 0, .failures = {}};
  const bool is_quiet = end - begin > 1;
  for (std::uint64_t seed = begin; seed < end;) {
    seed = run_some(scenario, seed, std::min(end, seed + kSeedsPerProcess), is_quiet, report);
  }
  return report;
}

std::string describe(const SeedReport& report) {
  std::string text;
  for (const SeedFailure& failure : report.failures) {
    text += fmt::format("{}, seed {}: {}\n  again: simulation_tests --seeds {} {} {}\n",
                        report.scenario, failure.seed, failure.problem, failure.seed,
                        failure.seed + 1, report.scenario);
  }
  return text;
}

}  // namespace superstep::simulation
