#include "paramserver/checkpoint_notes.h"

#include <algorithm>
#include <exception>
#include <vector>

#include <fmt/format.h>

#include "base/error_detail.h"

namespace superstep::paramserver {

Note note_of(const std::function<void()>& piece) {
  try {
    piece();
  } catch (const Error& error) {
    return {.problem = std::string(detail_of(error)), .exit_code = error.exit_code()};
  } catch (const std::exception& error) {
    return {.problem = fmt::format("unexpected error: {}", error.what()),
            .exit_code = ExitCode::kFailure};
  }
  return {};
}

std::optional<Note> first_problem(bsp::World& world, const Note& mine) {
  const std::vector<std::string> problems = world.allgather_string(mine.problem);
  const auto failed = [](const std::string& text) { return !text.empty(); };
  const auto first = std::find_if(problems.begin(), problems.end(), failed);
  if (first == problems.end()) {
    return std::nullopt;
  }
  const std::vector<int> exit_codes = world.allgather(static_cast<int>(mine.exit_code));
  const auto rank = first - problems.begin();
  const auto others = std::count_if(first + 1, problems.end(), failed);
  return Note{.problem = fmt::format("rank {}: {}{}", rank, *first,
                                     others > 0 ? fmt::format(" (and {} more ranks)", others) : ""),
              .exit_code = static_cast<ExitCode>(exit_codes[static_cast<std::size_t>(rank)])};
}

}  // namespace superstep::paramserver
