// One Environment::run: the lanes of this process, from their start to the exit code.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "bsp/environment.h"
#include "bsp/failure.h"
#include "bsp/status_board.h"
#include "bsp/status_service.h"
#include "bsp/team.h"

namespace superstep::bsp::internal {

class Job {
 public:
  struct Parts {
    EnvironmentOptions options;
    std::shared_ptr<const Topology> topology;
    std::unique_ptr<StatusBoard> board;
    std::unique_ptr<Transport> transport;
    std::uint32_t context = 0;
    Transport* all_processes = nullptr;  // outlives the job; for control messages and the end
    // Ends all processes of the job; empty for one process.
    std::function<void(ExitCode)> abort;
  };
  explicit Job(Parts parts);

  // Runs the body on every lane, lane 0 on this thread; returns when all lanes have ended and all
  // processes have come this far.
  ExitCode run(const std::function<void(World&)>& body);

 private:
  void run_lane(int rank, int lane, const std::function<void(World&)>& body);
  std::unique_ptr<World> make_world(int rank, int lane);
  void report(int rank, const std::string& what, ExitCode exit_code);
  void say_remedy(ExitCode exit_code) const;
  void end_lane(int rank);

  Parts parts_;
  Failure failure_;
  StatusService statuses_;
  std::shared_ptr<Team> team_;

  std::mutex mutex_;
  std::condition_variable lane_ended_;
  std::set<int> running_;  // ranks

  std::mutex report_mutex_;
  std::set<std::string> reported_;  // messages on standard error: each once
};

}  // namespace superstep::bsp::internal
