#include "paramserver/partner_piece.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_list.h"
#include "paramserver/checkpoint_serialize.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOwnerPrefix = "rank-";
constexpr const char* kStateHashText = "piece.state_hash";
constexpr const char* kManifestText = "piece.checkpoint_manifest";

std::string begin_number(const std::string& array) {
  return "piece.begin." + array;
}

[[noreturn]] void throw_no_piece(const fs::path& directory, std::string_view what) {
  throw DataError("Piece", directory.native(), -1, what, ExitCode::kBadCheckpoint);
}

Hash128 described_state_hash(const Manifest& manifest, const fs::path& directory) {
  try {
    if (const auto text = manifest.texts.find(kStateHashText); text != manifest.texts.end()) {
      return parse_hash(text->second);
    }
  } catch (const InvalidArgument&) {
    // Somebody else's text.
  }
  throw_no_piece(directory, "names no checkpoint that it belongs to");
}

// The directories of owners.
std::vector<fs::path> owners_in(const fs::path& pieces_of_run) {
  std::vector<fs::path> owners;
  for (fs::path& path : names_in(pieces_of_run)) {
    if (path.filename().native().starts_with(kOwnerPrefix) && is_own_directory(path)) {
      owners.push_back(std::move(path));
    }
  }
  return owners;
}

[[noreturn]] void throw_undeletable(const fs::path& path, const std::error_code& error) {
  throw DataError("prune_pieces", path.native(), -1,
                  fmt::format("cannot delete: {}", error.message()), ExitCode::kFailure);
}

// Nodes that share the directory delete the same things at the same time: what is gone, at any
// step, is as good as deleted.
void remove_unfinished_piece(const fs::path& path) {
  std::error_code gone;
  for (fs::directory_iterator entry(path, gone); !gone && entry != fs::directory_iterator();
       entry.increment(gone)) {
    std::error_code error;
    if (fs::remove(entry->path(), error); error) {
      throw_undeletable(entry->path(), error);
    }
  }
  std::error_code error;
  fs::remove(path, error);
  // Not empty: somebody has just renamed a piece to this, and deletes it.
  if (error && error != std::errc::directory_not_empty) {
    throw_undeletable(path, error);
  }
}

// As remove_checkpoint().
void remove_piece(const fs::path& path) {
  fs::path condemned = path;
  condemned += ".tmp";
  remove_unfinished_piece(condemned);
  std::error_code error;
  fs::rename(path, condemned, error);
  if (error == std::errc::no_such_file_or_directory) {
    return;
  }
  if (error) {
    throw_undeletable(path, error);
  }
  try {
    fsync_name(condemned);
  } catch (const DataError&) {
    if (fs::exists(fs::symlink_status(condemned, error))) {
      throw;
    }
  }
  remove_unfinished_piece(condemned);
}

}  // namespace

fs::path pieces_of_run(const fs::path& partner_directory, const std::string& run_id) {
  if (run_id.empty() || run_id == "." || run_id == ".." ||
      run_id.find_first_of(std::string_view("/\0", 2)) != std::string::npos) {
    throw InvalidArgument(
        "partner copies",
        fmt::format("run: got \"{}\", expected a name that a directory can have", run_id));
  }
  return partner_directory / run_id;
}

std::string owner_directory_name(int owner, int num_ranks) {
  return fmt::format("{}{:05d}-of-{:05d}", kOwnerPrefix, owner, num_ranks);
}

void describe_piece(const PieceDescription& description, Manifest& manifest) {
  manifest.texts[kStateHashText] = to_text(description.state_hash);
  if (!description.checkpoint_manifest.empty()) {
    manifest.texts[kManifestText] = description.checkpoint_manifest;
  }
  for (const auto& [array, begin] : description.begins) {
    // Exact: kMaxArrayElements is below 2^53.
    manifest.numbers[begin_number(array)] = static_cast<double>(begin);
  }
}

Piece read_piece(const fs::path& directory, const std::string& run_id) {
  const Manifest manifest = read_manifest(directory);
  if (manifest.run_id != run_id) {
    throw_no_piece(directory, fmt::format("is of another run: got run {}, expected run {}",
                                          manifest.run_id, run_id));
  }
  const std::int64_t superstep = manifest.position.superstep;
  if (directory.filename() != step_directory_name(superstep)) {
    throw_no_piece(directory,
                   fmt::format("holds superstep {}, which its name does not say", superstep));
  }
  Piece piece{.directory = directory,
              .superstep = superstep,
              .state_hash = described_state_hash(manifest, directory),
              .file_elements = manifest.file_elements,
              .ranges = {},
              .checkpoint_manifest = {},
              .is_own = false};
  for (const Manifest::Array& array : manifest.arrays) {
    const auto found = manifest.numbers.find(begin_number(array.name));
    // Written so that NaN is refused, too.
    if (found == manifest.numbers.end() ||
        !(found->second >= 0 && found->second <= static_cast<double>(kMaxArrayElements))) {
      throw_no_piece(directory, fmt::format("says not where \"{}\" begins", array.name));
    }
    const auto begin = static_cast<std::int64_t>(found->second);
    piece.ranges[array.name] = {begin, begin + array.num_elements};
  }
  if (const auto text = manifest.texts.find(kManifestText); text != manifest.texts.end()) {
    const auto bytes = std::as_bytes(std::span(text->second));
    piece.checkpoint_manifest.assign(bytes.begin(), bytes.end());
  }
  return piece;
}

std::vector<std::pair<std::int64_t, fs::path>> pieces_in(const fs::path& pieces_of_run) {
  std::vector<std::pair<std::int64_t, fs::path>> pieces;
  for (const fs::path& owner : owners_in(pieces_of_run)) {
    for (CheckpointCandidate& candidate : candidates_in(owner)) {
      pieces.emplace_back(candidate.superstep, std::move(candidate.path));
    }
  }
  return pieces;
}

void prune_pieces(const fs::path& pieces_of_run, std::int64_t superstep, int keep,
                  std::span<const fs::path> pinned) {
  for (const fs::path& owner : owners_in(pieces_of_run)) {
    for (const fs::path& path : names_in(owner)) {
      if (is_unfinished_step_name(path.filename().native())) {
        remove_unfinished_piece(path);
      }
    }
  }
  const auto pieces = pieces_in(pieces_of_run);
  std::set<std::int64_t, std::greater<>> supersteps;
  for (const auto& [at, path] : pieces) {
    if (at <= superstep) {
      supersteps.insert(at);
    }
  }
  if (supersteps.size() <= static_cast<std::size_t>(keep)) {
    return;
  }
  const std::int64_t oldest_kept = *std::next(supersteps.begin(), keep - 1);
  for (const auto& [at, path] : pieces) {
    if (at < oldest_kept && !names_one_of(path, pinned)) {
      remove_piece(path);
      std::error_code still_used;
      fs::remove(path.parent_path(), still_used);
    }
  }
}

}  // namespace superstep::paramserver
