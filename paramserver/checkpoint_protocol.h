// The steps of writing a checkpoint, in their order; CheckpointWriter decides when each of them
// runs and compares notes between the ranks. Not part of the API.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "bsp/world.h"
#include "paramserver/checkpoint.h"

namespace superstep::paramserver {

inline constexpr std::string_view kWriteCheckpoint = "write_checkpoint";  // in errors

// ranges[a][r]: what rank r holds of array a.
using AllRanges = std::vector<std::vector<ElementRange>>;

// Collective. Every rank checks what all ranks brought.
AllRanges agree_on_parts(bsp::World& world, const Position& position,
                         std::span<const ArrayPart> parts);

// Low and high halves of the hashes of a part's blocks.
std::vector<std::uint64_t> hash_blocks(std::span<const float> values);

// Collective. The array with its blocks' hashes on rank 0; without them elsewhere. `hashes`: of
// this rank's part.
Manifest::Array gather_hashes(bsp::World& world, const ArrayPart& part,
                              std::span<const std::uint64_t> hashes,
                              const std::vector<ElementRange>& ranges);

enum class Existing : std::uint8_t { kNothing, kSameState };

// Rank 0. Fills manifest.state_hash. Makes the directory with all its files, their space reserved,
// unless the same state stands at `target` already.
Existing prepare(const std::filesystem::path& temporary, const std::filesystem::path& target,
                 Manifest& manifest);

// Every rank. Writes and syncs this rank's blocks.
void write_parts(const std::filesystem::path& temporary, std::span<const ArrayPart> parts,
                 std::int64_t file_elements);

// Every rank. What the system says it has written is read again: older checkpoints are deleted only
// when the new one is known to be there.
void reread_parts(const std::filesystem::path& temporary, std::span<const ArrayPart> parts,
                  std::int64_t file_elements);

// Rank 0. From here on the checkpoint is valid.
void seal(const std::filesystem::path& temporary, const std::filesystem::path& target,
          const Manifest& manifest);

}  // namespace superstep::paramserver
