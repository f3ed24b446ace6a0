// Blocks of a checkpoint that is not whole, wherever they are: in the run's own directories, or in
// pieces that partners keep. Not part of the API.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "paramserver/checkpoint.h"
#include "paramserver/partner_piece.h"

namespace superstep::paramserver {

// What a run has of its checkpoints, whole or not: step-N, and step-N.damaged and the like, which
// were moved aside. Superstep and directory, by name.
std::vector<std::pair<std::int64_t, std::filesystem::path>> own_directories(
    const std::filesystem::path& checkpoints);

// The run's own directories of a checkpoint, as pieces that hold every array whole.
std::vector<Piece> own_pieces(const std::filesystem::path& checkpoints, const Manifest& manifest);

// Elements of a block in its array.
ElementRange block_range(const Manifest::Array& array, std::int64_t block);

// Reads a block from the first of the pieces that has it with the hash of the manifest; nullptr
// when none does. values.size() == block_range(array, block).length().
const Piece* find_block(std::span<const Piece> pieces, const Manifest::Array& array,
                        std::int64_t block, std::span<float> values);

}  // namespace superstep::paramserver
