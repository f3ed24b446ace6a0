#include "bsp/status_message.h"

#include <cstdint>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/json_integer.h"

namespace superstep::bsp::internal {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kFields = 9;

Json to_json(const StatusOfRank& entry) {
  const auto& [rank, status] = entry;
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

// Reads the fields of one entry; `valid` says whether all of them were what they must be.
class EntryReader {
 public:
  explicit EntryReader(const Json& entry)
      : entry_(entry), valid_(entry.is_array() && entry.size() == kFields) {}

  bool valid() const { return valid_; }
  std::int64_t integer(std::size_t field, std::int64_t most) {
    const auto number = valid_ ? json_integer(entry_[field], 0, most) : std::nullopt;
    valid_ = number.has_value();
    return number.value_or(0);
  }
  std::string text(std::size_t field) {
    valid_ = valid_ && entry_[field].is_string();
    return valid_ ? entry_[field].get<std::string>() : std::string();
  }

 private:
  const Json& entry_;
  bool valid_;
};

std::optional<StatusOfRank> from_json(const Json& entry, int num_ranks) {
  constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
  EntryReader reader(entry);
  RankStatus status;
  status.visible = true;
  const auto rank = static_cast<int>(reader.integer(0, num_ranks - 1));
  status.state = static_cast<RankState>(reader.integer(1, static_cast<int>(RankState::kFinished)));
  status.kind = static_cast<CallKind>(reader.integer(2, static_cast<int>(kLastCallKind)));
  status.context =
      static_cast<std::uint32_t>(reader.integer(3, std::numeric_limits<std::uint32_t>::max()));
  status.calls = static_cast<std::uint64_t>(reader.integer(4, kAny));
  status.superstep = static_cast<std::uint64_t>(reader.integer(5, kAny));
  status.site = reader.text(6);
  status.phase = reader.text(7);
  status.doing = reader.text(8);
  return reader.valid() ? std::optional(StatusOfRank{rank, status}) : std::nullopt;
}

}  // namespace

std::string encode_statuses(std::span<const StatusOfRank> statuses) {
  Json entries = Json::array();
  for (const StatusOfRank& entry : statuses) {
    entries.push_back(to_json(entry));
  }
  return entries.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<std::vector<StatusOfRank>> decode_statuses(std::string_view text, int num_ranks) {
  const Json entries = Json::parse(text, nullptr, false);
  if (!entries.is_array()) {
    return std::nullopt;
  }
  std::vector<StatusOfRank> statuses;
  for (const Json& entry : entries) {
    std::optional<StatusOfRank> status = from_json(entry, num_ranks);
    if (!status) {
      return std::nullopt;
    }
    statuses.push_back(std::move(*status));
  }
  return statuses;
}

}  // namespace superstep::bsp::internal
