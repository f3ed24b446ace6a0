#include "bsp/status_service.h"

#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "bsp/status_message.h"

namespace superstep::bsp::internal {

namespace {

constexpr const char* kRequest = "?";

}  // namespace

StatusService::StatusService(Transport& transport, const StatusBoard& board,
                             std::vector<int> process_of)
    : transport_(transport), board_(board), process_of_(std::move(process_of)) {}

std::string StatusService::my_statuses() const {
  std::vector<StatusOfRank> statuses;
  for (int rank = 0; rank < board_.num_ranks(); ++rank) {
    RankStatus status = board_.observe(rank);
    if (status.visible) {
      statuses.emplace_back(rank, std::move(status));
    }
  }
  return encode_statuses(statuses);
}

void StatusService::handle_messages() {
  while (const std::optional<ControlMessage> message = transport_.poll_control()) {
    if (message->text == kRequest) {
      transport_.post_control({message->process, my_statuses()});
      continue;
    }
    const auto statuses = decode_statuses(message->text, board_.num_ranks());
    if (!statuses) {
      continue;  // what is no answer counts as none
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [rank, status] : *statuses) {
      answers_.insert_or_assign(rank, status);
    }
  }
}

void StatusService::run_when_idle() {
  handle_messages();
}

void StatusService::request(std::span<const int> ranks) {
  std::set<int> processes;
  for (const int rank : ranks) {
    processes.insert(process_of_[static_cast<std::size_t>(rank)]);
  }
  for (const int process : processes) {
    transport_.post_control({process, kRequest});
  }
}

bool StatusService::all_answered(std::span<const int> ranks) const {
  const std::lock_guard lock(mutex_);
  for (const int rank : ranks) {
    if (!answers_.contains(rank)) {
      return false;
    }
  }
  return true;
}

std::vector<RankStatus> StatusService::ask(std::span<const int> ranks) {
  std::vector<int> elsewhere;
  for (const int rank : ranks) {
    if (!board_.read(rank).visible) {
      elsewhere.push_back(rank);
    }
  }
  request(elsewhere);
  const Stopwatch watch;
  while (!all_answered(elsewhere) && watch.elapsed() < kAnswerTime) {
    handle_messages();
    std::this_thread::sleep_for(Patience::kNap);
  }
  std::vector<RankStatus> statuses;
  const std::lock_guard lock(mutex_);
  for (const int rank : ranks) {
    const auto answer = answers_.find(rank);
    statuses.push_back(answer != answers_.end() ? answer->second : board_.observe(rank));
  }
  return statuses;
}

}  // namespace superstep::bsp::internal
