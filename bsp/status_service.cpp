#include "bsp/status_service.h"

#include <optional>
#include <set>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/clock.h"

namespace superstep::bsp::internal {

namespace {

constexpr const char* kRequest = "?";

nlohmann::json to_json(int rank, const RankStatus& status) {
  return {rank,
          static_cast<int>(status.state),
          static_cast<int>(status.kind),
          status.context,
          status.calls,
          status.superstep,
          status.site,
          status.phase,
          status.doing};
}

std::pair<int, RankStatus> from_json(const nlohmann::json& json) {
  RankStatus status;
  status.visible = true;
  status.state = static_cast<RankState>(json.at(1).get<int>());
  status.kind = static_cast<CallKind>(json.at(2).get<int>());
  json.at(3).get_to(status.context);
  json.at(4).get_to(status.calls);
  json.at(5).get_to(status.superstep);
  json.at(6).get_to(status.site);
  json.at(7).get_to(status.phase);
  json.at(8).get_to(status.doing);
  return {json.at(0).get<int>(), status};
}

}  // namespace

StatusService::StatusService(Transport& transport, const StatusBoard& board,
                             std::vector<int> process_of)
    : transport_(transport), board_(board), process_of_(std::move(process_of)) {}

std::string StatusService::my_statuses() const {
  nlohmann::json statuses = nlohmann::json::array();
  for (int rank = 0; rank < board_.num_ranks(); ++rank) {
    const RankStatus status = board_.observe(rank);
    if (status.visible) {
      statuses.push_back(to_json(rank, status));
    }
  }
  return statuses.dump();
}

void StatusService::handle_messages() {
  while (const std::optional<ControlMessage> message = transport_.poll_control()) {
    if (message->text == kRequest) {
      transport_.post_control({message->process, my_statuses()});
      continue;
    }
    const std::lock_guard lock(mutex_);
    for (const nlohmann::json& json : nlohmann::json::parse(message->text)) {
      answers_.insert_or_assign(from_json(json).first, from_json(json).second);
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
