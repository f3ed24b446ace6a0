// Asks the processes of other nodes what their ranks are doing, and answers when they ask.
//
// Requests are answered by whoever waits: a leader looks for them now and then while it waits for
// its lanes or for another process. A process that does not answer is computing with all its lanes,
// stopped, or out of reach. Thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "bsp/patience.h"
#include "bsp/status_board.h"
#include "bsp/transport.h"

namespace superstep::bsp::internal {

class StatusService : public IdleTask {
 public:
  // `transport` spans all processes and, like `board`, must outlive the service. process_of[rank].
  StatusService(Transport& transport, const StatusBoard& board, std::vector<int> process_of);

  // Answers requests that have come.
  void run_when_idle() override;

  // What is known about a rank: from the board, or from its process's answer within kAnswerTime.
  static constexpr std::chrono::milliseconds kAnswerTime{500};
  std::vector<RankStatus> ask(std::span<const int> ranks);

 private:
  std::string my_statuses() const;
  void handle_messages();
  void request(std::span<const int> ranks);
  bool all_answered(std::span<const int> ranks) const;

  Transport& transport_;
  const StatusBoard& board_;
  std::vector<int> process_of_;
  mutable std::mutex mutex_;
  std::map<int, RankStatus> answers_;  // by rank
};

}  // namespace superstep::bsp::internal
