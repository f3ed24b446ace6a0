#include "paramserver/partner_blocks.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/error.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_list.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMovedAside = ".damaged";

bool has_block(const Piece& piece, const Manifest::Array& array, std::int64_t block,
               std::span<float> values) {
  const auto held = piece.ranges.find(array.name);
  const ElementRange range = block_range(array, block);
  if (held == piece.ranges.end() || range.begin < held->second.begin ||
      range.end > held->second.end || held->second.begin % kBlockElements != 0) {
    return false;
  }
  const ElementRange local{range.begin - held->second.begin, range.end - held->second.begin};
  const FilePiece place = file_pieces(local, piece.file_elements).front();
  const fs::path path = piece.directory / array_file_name(array.name, place.file_index);
  try {
    read_at(open_checkpoint_file(path), path, place.offset, std::as_writable_bytes(values));
  } catch (const DataError&) {
    return false;  // missing, too short, unreadable: another piece may have it
  }
  return hash_span<float>(values) == array.blocks[static_cast<std::size_t>(block)];
}

}  // namespace

std::vector<std::pair<std::int64_t, fs::path>> own_directories(const fs::path& checkpoints) {
  std::vector<std::pair<std::int64_t, fs::path>> found;
  for (fs::path& path : names_in(checkpoints)) {
    const std::string name = path.filename().native();
    const auto superstep = parse_step_directory_name(name.substr(0, name.find(kMovedAside)));
    if (superstep.has_value() && is_own_directory(path)) {
      found.emplace_back(*superstep, std::move(path));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<Piece> own_pieces(const fs::path& checkpoints, const Manifest& manifest) {
  std::vector<Piece> pieces;
  for (auto& [superstep, path] : own_directories(checkpoints)) {
    if (superstep != manifest.position.superstep) {
      continue;
    }
    Piece piece{.directory = std::move(path),
                .superstep = superstep,
                .state_hash = manifest.state_hash,
                .file_elements = manifest.file_elements,
                .ranges = {},
                .checkpoint_manifest = {},
                .is_own = true};
    for (const Manifest::Array& array : manifest.arrays) {
      piece.ranges[array.name] = {0, array.num_elements};
    }
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

ElementRange block_range(const Manifest::Array& array, std::int64_t block) {
  return {block * kBlockElements, std::min((block + 1) * kBlockElements, array.num_elements)};
}

const Piece* find_block(std::span<const Piece> pieces, const Manifest::Array& array,
                        std::int64_t block, std::span<float> values) {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(values.size()) == block_range(array, block).length(),
                  "values of a block", values.size());
  const auto found = std::find_if(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    return has_block(piece, array, block, values);
  });
  return found == pieces.end() ? nullptr : &*found;
}

}  // namespace superstep::paramserver
