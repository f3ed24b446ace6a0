// A piece: the parts that one rank (the owner) had of a checkpoint, as its partner keeps them.
//
//   PARTNER_DIRECTORY/RUN_ID/rank-00001-of-00004/step-00000420/
//                                               parameters-00000.bin   the owner's elements, no
//                                               others MANIFEST
//
// A piece is a checkpoint directory of its own, whose arrays are the owner's parts: it is made,
// synced, read again and sealed by the steps of checkpoint_protocol.h. Its manifest names the
// checkpoint that it belongs to by state hash and says where each part begins in its array; one
// piece of each node also holds that checkpoint's manifest, byte for byte. Owner and number of
// ranks are in the name, so that no two ranks write below one name, whoever shares the directory,
// and pieces of a run on another number of ranks stay beside the new ones. Not part of the API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "paramserver/checkpoint.h"

namespace superstep::paramserver {

// Where the pieces of a run lie. InvalidArgument when the run's name cannot be a directory's.
std::filesystem::path pieces_of_run(const std::filesystem::path& partner_directory,
                                    const std::string& run_id);
// "rank-00001-of-00004".
std::string owner_directory_name(int owner, int num_ranks);

// What a piece's manifest says of the checkpoint; its arrays and files are Manifest's own.
struct PieceDescription {
  Hash128 state_hash;                          // of the checkpoint
  std::map<std::string, std::int64_t> begins;  // first element of each part in its array
  std::string checkpoint_manifest;             // encoded; empty in most pieces
};
void describe_piece(const PieceDescription& description, Manifest& manifest);

// A piece that was found.
struct Piece {
  std::filesystem::path directory;
  std::int64_t superstep = 0;
  Hash128 state_hash;  // of the checkpoint
  std::int64_t file_elements = 0;
  std::map<std::string, ElementRange> ranges;  // in the arrays of the checkpoint
  std::vector<std::byte> checkpoint_manifest;
  bool is_own = false;  // a directory of the run's own checkpoints, taken for a piece
};
// Verifies the manifest, not the data. DataError when it is damaged, of another superstep than its
// directory is named after, or no piece of the run.
Piece read_piece(const std::filesystem::path& directory, const std::string& run_id);

// Every finished piece of a run, by the looks of its name, as (superstep, directory).
std::vector<std::pair<std::int64_t, std::filesystem::path>> pieces_in(
    const std::filesystem::path& pieces_of_run);

// For one process of each node, when the checkpoint of `superstep` is whole on all nodes. Deletes
// all pieces but those of the newest `keep` supersteps up to that one and of the `pinned`
// checkpoints (named as in prune_checkpoints), and what unfinished writes left. Several nodes may
// do it to one directory at the same time. Pieces of later supersteps stay: nobody knows yet
// whether they are good for anything.
void prune_pieces(const std::filesystem::path& pieces_of_run, std::int64_t superstep, int keep,
                  std::span<const std::filesystem::path> pinned);

}  // namespace superstep::paramserver
