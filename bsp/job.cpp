#include "bsp/job.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/detached_call.h"
#include "bsp/stack_dump.h"
#include "bsp/status_recorder.h"
#include "bsp/world_state.h"

namespace superstep::bsp::internal {

namespace {

// How long lanes that were released may take to end before the process does.
constexpr std::chrono::seconds kGrace{3};
// What a remedy may take to be found.
constexpr std::chrono::seconds kRemedyLimit{2};

// One write: ranks do not mix.
void say_line(const std::string& text) {
  const std::string line = text + '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

int ranks_on_machine_of(const Topology& topology, int process) {
  const auto first_rank = static_cast<std::size_t>(
      topology.ranks_of_process[static_cast<std::size_t>(process)].front());
  return static_cast<int>(std::count(topology.machine_of.begin(), topology.machine_of.end(),
                                     topology.machine_of[first_rank]));
}

}  // namespace

Job::Job(Parts parts)
    : parts_(std::move(parts)),
      statuses_(*parts_.all_processes, *parts_.board, parts_.topology->process_of) {
  const int process = parts_.transport->process();
  const bool oversubscribed =
      is_oversubscribed(parts_.options.lanes, ranks_on_machine_of(*parts_.topology, process));
  team_ =
      std::make_shared<Team>(parts_.topology, std::move(parts_.transport), parts_.context,
                             WaitPolicy{.failure = &failure_, .oversubscribed = oversubscribed});
  const std::vector<int>& ranks =
      parts_.topology->ranks_of_process[static_cast<std::size_t>(process)];
  running_.insert(ranks.begin(), ranks.end());
}

std::unique_ptr<World> Job::make_world(int rank, int lane) {
  auto state = std::make_unique<World::State>();
  state->team = team_;
  state->lane = lane;
  state->rank = rank;
  state->is_root_world = true;
  state->deadline = parts_.options.sync_deadline;
  state->rank_context = std::make_shared<RankContext>(RankContext{
      &failure_, &statuses_, StatusWriter(parts_.board->slot(rank)), parts_.options.checks});
  state->rank_context->status.set_thread();
  set_dumped_rank(rank);
  state->rank_context->status.set_state(RankState::kComputing);
  return WorldAccess::make(std::move(state));
}

ExitCode Job::run(const std::function<void(World&)>& body) {
  install_stack_dumps();
  const std::vector<int> ranks(running_.begin(), running_.end());  // ascending: by lane
  const StatusRecorder recorder(*parts_.board, ranks,
                                parts_.topology->host_of[static_cast<std::size_t>(ranks.front())],
                                parts_.options.status_file);
  std::vector<std::thread> threads;
  for (int lane = 1; lane < parts_.options.lanes; ++lane) {
    threads.emplace_back([this, rank = ranks[static_cast<std::size_t>(lane)], lane, &body] {
      run_lane(rank, lane, body);
    });
  }
  run_lane(ranks.front(), 0, body);
  for (std::thread& thread : threads) {
    thread.join();
  }
  if (failure_.raised()) {
    return failure_.exit_code();
  }
  // Whatever a rank does after its last sync may take as long as it likes.
  Patience patience(team_->wait_policy(), kNeverExpires, &statuses_);
  std::array<std::uint64_t, 1> word{};
  parts_.all_processes->synchronise(word, patience);
  return ExitCode::kDone;
}

void Job::run_lane(int rank, int lane, const std::function<void(World&)>& body) {
  try {
    const std::unique_ptr<World> world = make_world(rank, lane);
    body(*world);
  } catch (const PeerFailure&) {
    // Released because another rank failed, which reports for itself.
  } catch (const Error& error) {
    report(rank, error.what(), error.exit_code());
  } catch (const std::exception& error) {
    report(rank, error.what(), ExitCode::kFailure);
  } catch (...) {
    report(rank, "an exception of unknown type", ExitCode::kFailure);
  }
  end_lane(rank);
}

void Job::report(int rank, const std::string& what, ExitCode exit_code) {
  failure_.raise(rank, what, exit_code);
  // One lane after the other: none ends the job before what another one has to say is said.
  const std::lock_guard lock(report_mutex_);
  if (reported_.insert(what).second) {
    say_line(fmt::format("[rank {}] {}", rank, what));
    if (parts_.options.remedy) {
      say_remedy(exit_code);
    }
  }
  if (parts_.abort) {
    parts_.abort(failure_.exit_code());
  }
}

// A remedy may read files, and a file system may hang: then the job ends without it.
void Job::say_remedy(ExitCode exit_code) const {
  std::future<std::string> remedy =
      call_detached([remedy = parts_.options.remedy, exit_code] { return remedy(exit_code); });
  if (remedy.wait_for(kRemedyLimit) == std::future_status::ready) {
    if (const std::string text = remedy.get(); !text.empty()) {
      say_line(text);
    }
    return;
  }
  say_line(fmt::format("how to go on was not found within {}: does the file system hang?",
                       format_duration(kRemedyLimit)));
  if (!parts_.abort) {  // the call may still look at what its caller would destroy
    std::_Exit(static_cast<int>(failure_.exit_code()));
  }
}

// After a failure a lane that ended waits for the others: released lanes end at once, but one that
// computes without end would keep the process alive for ever.
void Job::end_lane(int rank) {
  StatusWriter(parts_.board->slot(rank)).set_state(RankState::kFinished);
  std::unique_lock lock(mutex_);
  running_.erase(rank);
  lane_ended_.notify_all();
  if (!failure_.raised() ||
      lane_ended_.wait_for(lock, kGrace, [this] { return running_.empty(); })) {
    return;
  }
  const std::vector<int> ranks(running_.begin(), running_.end());
  say_line(fmt::format("[rank {}] ranks {} do not end: ending the process", rank,
                       describe_ranks(ranks)));
  std::fflush(nullptr);
  std::_Exit(static_cast<int>(failure_.exit_code()));
}

}  // namespace superstep::bsp::internal
