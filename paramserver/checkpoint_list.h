// What lies in a directory of checkpoints, by name, and how one is deleted. Not part of the API:
// checkpoint.h has the questions that a run asks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace superstep::paramserver {

struct CheckpointCandidate {
  std::int64_t superstep = 0;
  std::filesystem::path path;
};

// Every name in the directory; empty when it does not exist. DataError when it cannot be listed.
std::vector<std::filesystem::path> names_in(const std::filesystem::path& root);

// What is named like a finished checkpoint, oldest first, valid or not.
std::vector<CheckpointCandidate> candidates_in(const std::filesystem::path& root);

// Whether the path itself is a directory, not a link to one.
bool is_own_directory(const std::filesystem::path& path);

bool names_one_of(const std::filesystem::path& path,
                  std::span<const std::filesystem::path> checkpoints);

// What keeps a run from going on there; empty when every byte is verified.
std::string problem_of_checkpoint(const std::filesystem::path& path);

// A finished checkpoint. It is renamed before anything inside is deleted, so that a deletion that
// is interrupted leaves a name that nobody takes for a checkpoint.
void remove_checkpoint(const std::filesystem::path& path);

}  // namespace superstep::paramserver
