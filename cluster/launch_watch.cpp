#include "cluster/launch_watch.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/detached_call.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_integer.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxStatusBytes = std::int64_t{16} << 20;

std::optional<WatchedRank> rank_from(const nlohmann::json& rank, const nlohmann::json& file) {
  constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
  const auto number = json_integer(rank.at("rank"), 0, std::numeric_limits<int>::max());
  const auto superstep = json_integer(rank.at("superstep"), 0, kAny);
  const auto calls = json_integer(rank.at("calls"), 0, kAny);
  const auto time_ms = json_integer(file.at("time_ms"), 0, kAny);
  if (!number || !superstep || !calls || !time_ms) {
    return std::nullopt;
  }
  return WatchedRank{.rank = static_cast<int>(*number),
                     .host = file.at("host"),
                     .superstep = *superstep,
                     .calls = *calls,
                     .time_ms = *time_ms,
                     .state = rank.at("state"),
                     .phase = rank.at("phase"),
                     .site = rank.at("site")};
}

std::string read_status(const fs::path& path) {
  try {
    return read_text_file(path, kMaxStatusBytes);
  } catch (const DataError&) {
    return {};  // gone, or not readable: it will be there again in a second
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

std::vector<WatchedRank> parse_status(std::string_view text) {
  std::vector<WatchedRank> ranks;
  try {
    const nlohmann::json file = nlohmann::json::parse(text);
    for (const nlohmann::json& entry : file.at("ranks")) {
      std::optional<WatchedRank> rank = rank_from(entry, file);
      if (!rank) {
        return {};
      }
      ranks.push_back(std::move(*rank));
    }
  } catch (const nlohmann::json::exception&) {
    return {};
  }
  return ranks;
}

std::vector<WatchedRank> read_statuses(const fs::path& launch_directory) {
  std::vector<WatchedRank> ranks;
  std::error_code error;
  for (fs::directory_iterator entry(launch_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("status-") && name.ends_with(".json")) {
      const std::vector<WatchedRank> read = parse_status(read_status(entry->path()));
      ranks.insert(ranks.end(), read.begin(), read.end());
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

HangWatch::HangWatch(fs::path launch_directory, std::chrono::milliseconds patience)
    : HangWatch([directory = std::move(launch_directory)] { return read_statuses(directory); },
                patience) {}

std::chrono::nanoseconds HangWatch::waits() const {
  return reading_.valid() ? since_reading_.elapsed() : std::chrono::nanoseconds(0);
}

// nullopt while the files do not come.
std::optional<std::vector<WatchedRank>> HangWatch::read() {
  constexpr std::chrono::milliseconds kLimit{500};
  if (!reading_.valid()) {
    reading_ = call_detached(reader_);
    since_reading_.restart();
  }
  if (reading_.wait_for(kLimit) != std::future_status::ready) {
    was_late_ = true;
    return std::nullopt;
  }
  return reading_.get();
}

std::optional<WatchedRank> HangWatch::look() {
  const std::optional<std::vector<WatchedRank>> read_now = read();
  if (!read_now) {
    return std::nullopt;
  }
  const std::vector<WatchedRank>& ranks = *read_now;
  if (std::exchange(was_late_, false)) {  // nor could the ranks write, perhaps
    since_move_.restart();
  }
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
