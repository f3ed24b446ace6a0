// How a piece of work ended on each rank, so that all ranks go on or fail together. Not part of
// the API.
//
//   const Note mine = note_of([&] { write_parts(...); });      // no collective calls inside
//   if (const auto problem = first_problem(world, mine)) {     // collective
//     throw DataError(where, path, -1, "not written: " + problem->problem, problem->exit_code);
//   }
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/error.h"
#include "bsp/world.h"

namespace superstep::paramserver {

struct Note {
  std::string problem;  // empty: none
  ExitCode exit_code = ExitCode::kDone;
};

// Runs the piece; an exception becomes a note.
Note note_of(const std::function<void()>& piece);

// Collective. What the first rank with a problem noted, after its name, the same on every rank:
// "rank 2: ... (and 1 more ranks)". nullopt when no rank has one.
std::optional<Note> first_problem(bsp::World& world, const Note& mine);

}  // namespace superstep::paramserver
