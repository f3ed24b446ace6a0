// What the ranks of a process are doing, as a text for another process (bsp/status_service.h).
//
//   [[0,2,3,1,17,4,"worker/trainer.cpp:40","backward","running"],...]
//
// Rank, state, kind of call, world, calls, superstep, call site, phase, what the system says.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bsp/status_board.h"

namespace superstep::bsp::internal {

using StatusOfRank = std::pair<int, RankStatus>;

// Text that is no UTF-8 (a name cut in the middle of a character) is replaced where it is not.
std::string encode_statuses(std::span<const StatusOfRank> statuses);

// nullopt when the text is none of encode_statuses(), or names a rank outside [0, num_ranks): a
// report about a rank that hangs must not fail because of the report.
std::optional<std::vector<StatusOfRank>> decode_statuses(std::string_view text, int num_ranks);

}  // namespace superstep::bsp::internal
