// The checkpoints of a run as a set: listing, choosing, deleting.

#include "paramserver/checkpoint_list.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/error.h"
#include "base/file.h"
#include "paramserver/checkpoint.h"
#include "paramserver/checkpoint_files.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void throw_unlistable(const fs::path& root, const std::error_code& error) {
  throw DataError("list_checkpoints", root.native(), -1,
                  fmt::format("cannot list the directory: {}", error.message()),
                  ExitCode::kBadCheckpoint);
}

}  // namespace

std::vector<fs::path> names_in(const fs::path& root) {
  std::error_code error;
  std::vector<fs::path> paths;
  if (!fs::exists(root, error) && !error) {
    return paths;
  }
  fs::directory_iterator entry(root, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    paths.push_back(entry->path());
  }
  if (error == std::errc::no_such_file_or_directory) {
    return {};  // deleted meanwhile
  }
  if (error) {
    throw_unlistable(root, error);
  }
  return paths;
}

bool is_own_directory(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(fs::symlink_status(path, error));
}

std::vector<CheckpointCandidate> candidates_in(const fs::path& root) {
  std::vector<CheckpointCandidate> candidates;
  for (fs::path& path : names_in(root)) {
    if (const auto superstep = parse_step_directory_name(path.filename().native())) {
      candidates.push_back({*superstep, std::move(path)});
    }
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const CheckpointCandidate& a, const CheckpointCandidate& b) {
              return a.superstep < b.superstep;
            });
  return candidates;
}

namespace {

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) {
    throw DataError("prune_checkpoints", path.native(), -1,
                    fmt::format("cannot delete: {}", error.message()), ExitCode::kFailure);
  }
}

// A disk that cannot is left to the next checkpoint, which says so: this one is there for now.
void sync_names(const fs::path& root) {
  try {
    fsync_directory(root);
  } catch (const Error&) {
  }
}

}  // namespace

void remove_checkpoint(const fs::path& path) {
  fs::path condemned = path;
  condemned += ".tmp";
  remove_tree(condemned);
  rename_directory(path, condemned);
  remove_tree(condemned);
}

bool names_one_of(const fs::path& path, std::span<const fs::path> checkpoints) {
  return std::any_of(checkpoints.begin(), checkpoints.end(), [&](const fs::path& other) {
    // "root/step-1/" has an empty file name.
    const fs::path name = other.has_filename() ? other.filename() : other.parent_path().filename();
    return name == path.filename();
  });
}

std::string problem_of_checkpoint(const fs::path& path) {
  if (!is_own_directory(path)) {
    return fmt::format("[Checkpoint] {}: is not a directory", path.native());
  }
  try {
    CheckpointReader(path).verify();
    return {};
  } catch (const DataError& error) {
    return error.what();
  }
}

namespace {

// Empty when there is none, and for a checkpoint of another model, which its reader refuses.
std::string problem_of_parameters(const fs::path& path, const ParameterLayout& layout) {
  try {
    const CheckpointReader reader(path);
    if (reader.manifest().model_description != layout.describe()) {
      return {};
    }
    reader.require_model(layout);
    AlignedBuffer<float> parameters(layout.size(), Fill::kTailOnly);
    reader.read("parameters", {0, layout.size()}, parameters.span());
    reader.require_parameters_hash(layout.parameters_hash(parameters.span()));
    return {};
  } catch (const DataError& error) {
    return error.what();
  }
}

}  // namespace

std::vector<fs::path> list_checkpoints(const fs::path& root) {
  std::vector<fs::path> valid;
  for (CheckpointCandidate& candidate : candidates_in(root)) {
    if (!is_own_directory(candidate.path)) {
      continue;
    }
    try {
      const CheckpointReader reader(candidate.path);
      valid.push_back(std::move(candidate.path));
    } catch (const DataError&) {
      // Not valid, so not listed; newest_verified_checkpoint says why.
    }
  }
  return valid;
}

std::optional<fs::path> newest_checkpoint(const fs::path& root) {
  std::vector<fs::path> valid = list_checkpoints(root);
  if (valid.empty()) {
    return std::nullopt;
  }
  return std::move(valid.back());
}

std::vector<ExaminedCheckpoint> examine_checkpoints(const fs::path& root) {
  std::vector<ExaminedCheckpoint> examined;
  for (CheckpointCandidate& candidate : candidates_in(root)) {
    std::string problem = problem_of_checkpoint(candidate.path);
    examined.push_back({std::move(candidate.path), std::move(problem)});
  }
  return examined;
}

std::optional<fs::path> newest_verified_checkpoint(const fs::path& root,
                                                   std::vector<std::string>* problems,
                                                   const ParameterLayout* layout) {
  std::vector<CheckpointCandidate> candidates = candidates_in(root);
  std::reverse(candidates.begin(), candidates.end());
  for (const CheckpointCandidate& candidate : candidates) {
    std::string problem = problem_of_checkpoint(candidate.path);
    if (problem.empty() && layout != nullptr) {
      problem = problem_of_parameters(candidate.path, *layout);
    }
    if (problem.empty()) {
      sync_names(root);
      return candidate.path;
    }
    if (problems != nullptr) {
      problems->push_back(std::move(problem));
    }
  }
  return std::nullopt;
}

void set_aside_newer(const fs::path& root, std::int64_t superstep) {
  for (const CheckpointCandidate& candidate : candidates_in(root)) {
    if (candidate.superstep > superstep) {
      set_aside(candidate.path);
    }
  }
}

void prune_checkpoints(const fs::path& root, int keep, std::span<const fs::path> pinned,
                       std::int64_t newest) {
  if (keep < 1) {
    throw InvalidArgument("prune_checkpoints", fmt::format("keep: got {}, expected >= 1", keep));
  }
  for (const fs::path& path : names_in(root)) {
    if (is_unfinished_step_name(path.filename().native())) {
      remove_tree(path);
    }
  }
  std::vector<fs::path> valid = list_checkpoints(root);
  std::erase_if(valid, [newest](const fs::path& path) {
    return parse_step_directory_name(path.filename().native()).value_or(0) > newest;
  });
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < valid.size(); ++i) {
    if (!names_one_of(valid[i], pinned)) {
      remove_checkpoint(valid[i]);
    }
  }
}

}  // namespace superstep::paramserver
