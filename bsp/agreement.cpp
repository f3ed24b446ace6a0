#include "bsp/agreement.h"

#include <algorithm>
#include <cstdint>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hash.h"
#include "bsp/call_log.h"

namespace superstep::bsp {

namespace {

constexpr std::size_t kMostFieldsNamed = 8;
constexpr std::size_t kLongestValue = 200;

// Long values differ somewhere: the first difference is shown with what surrounds it.
std::string excerpt(const std::string& value, const std::string& other) {
  if (value.size() <= kLongestValue) {
    return value;
  }
  constexpr std::size_t kBefore = 40;
  const auto difference = static_cast<std::size_t>(
      std::mismatch(value.begin(), value.end(), other.begin(), other.end()).first - value.begin());
  const std::size_t begin = difference > kBefore ? difference - kBefore : 0;
  return fmt::format("{}{}...", begin > 0 ? "..." : "", value.substr(begin, kLongestValue));
}

// One field's values by rank; empty when they are equal.
std::string difference(const std::string& name, const std::vector<std::string>& values) {
  std::map<std::string, std::vector<int>> deviating;
  for (std::size_t rank = 0; rank < values.size(); ++rank) {
    if (values[rank] != values[0]) {
      deviating[values[rank]].push_back(static_cast<int>(rank));
    }
  }
  if (deviating.empty()) {
    return {};
  }
  std::string got;
  for (const auto& [value, ranks] : deviating) {
    got += fmt::format("{}\"{}\" on ranks {}", got.empty() ? "" : ", ", excerpt(value, values[0]),
                       internal::describe_ranks(ranks));
  }
  return fmt::format("{} is not the same on all ranks: got {}, expected \"{}\" as on rank 0", name,
                     got, excerpt(values[0], deviating.begin()->first));
}

}  // namespace

namespace internal {

std::string encode_fields(const AgreementFields& fields) {
  return nlohmann::json(fields).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

AgreementFields decode_fields(std::string_view text, int rank) {
  try {
    return nlohmann::json::parse(text).get<AgreementFields>();
  } catch (const nlohmann::json::exception& error) {
    throw CommunicationError("Agreement",
                             fmt::format("rank {} sent {} bytes that are no list of fields: {}",
                                         rank, text.size(), error.what()),
                             ExitCode::kRanksDisagree);
  }
}

std::vector<std::string> differences(std::span<const AgreementFields> by_rank) {
  std::vector<std::string> found;
  const std::size_t count = by_rank[0].size();
  for (std::size_t rank = 1; rank < by_rank.size(); ++rank) {
    if (by_rank[rank].size() != count) {
      return {fmt::format("ranks compare different things: got {} fields on rank {}, expected {}",
                          by_rank[rank].size(), rank, count)};
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (const AgreementFields& fields : by_rank) {
      names.push_back(fields[i].first);
      values.push_back(fields[i].second);
    }
    std::string text = difference("the name of a field", names);
    text = text.empty() ? difference(names[0], values) : text;
    if (!text.empty()) {
      found.push_back(std::move(text));
    }
  }
  return found;
}

}  // namespace internal

void Agreement::require(World& world, CallSite site) const {
  const std::string mine = internal::encode_fields(fields_);
  const Hash128 hash = hash_text(mine);
  const std::vector<std::uint64_t> low = world.allgather(hash.low, site);
  const std::vector<std::uint64_t> high = world.allgather(hash.high, site);
  const auto all_equal = [](const std::vector<std::uint64_t>& values) {
    return std::all_of(values.begin(), values.end(),
                       [&](std::uint64_t value) { return value == values[0]; });
  };
  if (all_equal(low) && all_equal(high)) {
    return;
  }
  std::vector<AgreementFields> by_rank;
  for (const std::string& text : world.allgather_string(mine, site)) {
    by_rank.push_back(internal::decode_fields(text, static_cast<int>(by_rank.size())));
  }
  std::vector<std::string> found = internal::differences(by_rank);
  if (found.size() > kMostFieldsNamed) {
    const std::size_t more = found.size() - kMostFieldsNamed;
    found.resize(kMostFieldsNamed);
    found.push_back(fmt::format("and {} more fields", more));
  }
  throw CommunicationError("Agreement", fmt::format("{}", fmt::join(found, "\n  ")),
                           ExitCode::kRanksDisagree);
}

}  // namespace superstep::bsp
