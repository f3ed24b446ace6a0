#include "cluster/launch_watch.h"

#include <algorithm>
#include <system_error>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxStatusBytes = std::int64_t{16} << 20;

void read_status(const fs::path& path, std::vector<WatchedRank>& ranks) {
  try {
    const nlohmann::json json = nlohmann::json::parse(read_text_file(path, kMaxStatusBytes));
    for (const nlohmann::json& rank : json.at("ranks")) {
      ranks.push_back({.rank = rank.at("rank"),
                       .host = json.at("host"),
                       .superstep = rank.at("superstep"),
                       .calls = rank.at("calls"),
                       .time_ms = json.at("time_ms"),
                       .state = rank.at("state"),
                       .phase = rank.at("phase"),
                       .site = rank.at("site")});
    }
  } catch (const Error&) {
    // Gone, or not readable: it will be there again in a second.
  } catch (const nlohmann::json::exception&) {
    // As above.
  }
}

}  // namespace

std::string WatchedRank::to_text() const {
  if (rank < 0) {
    return state;
  }
  return fmt::format("rank {} on {}: {} in superstep {}{}, {} calls{}", rank, host, state,
                     superstep, phase.empty() ? "" : fmt::format(", phase \"{}\"", phase), calls,
                     site.empty() ? "" : fmt::format(", last at {}", site));
}

std::vector<WatchedRank> read_statuses(const fs::path& launch_directory) {
  std::vector<WatchedRank> ranks;
  std::error_code error;
  for (fs::directory_iterator entry(launch_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("status-") && name.ends_with(".json")) {
      read_status(entry->path(), ranks);
    }
  }
  std::sort(ranks.begin(), ranks.end(),
            [](const WatchedRank& a, const WatchedRank& b) { return a.rank < b.rank; });
  return ranks;
}

std::optional<WatchedRank> culprit_of(const std::vector<WatchedRank>& ranks) {
  const auto behind =
      std::min_element(ranks.begin(), ranks.end(), [](const WatchedRank& a, const WatchedRank& b) {
        return std::tuple(a.superstep, a.calls, a.time_ms) <
               std::tuple(b.superstep, b.calls, b.time_ms);
      });
  return behind == ranks.end() ? std::nullopt : std::optional(*behind);
}

std::optional<WatchedRank> HangWatch::look() {
  const std::vector<WatchedRank> ranks = read_statuses(directory_);
  std::vector<std::pair<std::int64_t, std::int64_t>> now;
  now.reserve(ranks.size());
  for (const WatchedRank& rank : ranks) {
    now.emplace_back(rank.superstep, rank.calls);
  }
  if (now != last_) {
    last_ = std::move(now);
    since_move_.restart();
  }
  if (since_move_.elapsed() < patience_) {
    return std::nullopt;
  }
  const std::optional<WatchedRank> culprit = culprit_of(ranks);
  return culprit ? culprit
                 : WatchedRank{.host = {}, .state = "no rank has begun", .phase = {}, .site = {}};
}

}  // namespace superstep::cluster
