// Checkpoints: a directory per step that holds nothing shaped by ranks.
//
//   checkpoints/step-00000420/parameters-00000.bin   flat little-endian float32, fixed-size files
//                             momentum-00000.bin     one series of files per optimizer state array
//                             MANIFEST               written last: verified frame around a Boost archive
//
// Files of an array hold kFileElements elements each (the last one fewer), cut at fixed places, so the
// bytes are the same for every number of ranks. Each rank writes its own blocks; every block of 4,096
// elements has an XXH3-128 in the manifest, and a damaged file is refused with its name and the byte
// offset of the first damaged block. The directory is written under a temporary name (step-N.tmp),
// every file and directory is fsynced, and one rename makes it valid.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "bsp/world.h"
#include "paramserver/layout.h"
#include "paramserver/learning_rate.h"
#include "paramserver/optimizer.h"

namespace superstep::paramserver {

inline constexpr std::int64_t kFileElements = std::int64_t{1} << 26;  // 256 MiB of float32

// Where a run stands: the next superstep to do.
struct Position {
  std::int64_t superstep = 0;        // supersteps done since the run began
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;
  std::uint64_t seed = 0;
  friend bool operator==(const Position&, const Position&) = default;
};

struct Manifest {
  std::string run_id;
  std::string program_version;
  std::string model_description;     // ParameterLayout::describe() of the model
  std::string configuration;         // resolved TOML text of the run
  OptimizerSpec optimizer;
  Position position;
  std::map<std::string, double> numbers;       // best accuracy so far and the like (trainer's memory)
  std::map<std::string, std::string> texts;
  struct Array {
    std::string name;                // "parameters", then state arrays
    std::int64_t num_elements = 0;
    std::vector<Hash128> blocks;     // one per 4,096 elements
  };
  std::vector<Array> arrays;
  Hash128 parameters_hash;
  Hash128 state_hash;
};

// This rank's part of an array: elements [range.begin, range.end), whole blocks.
struct ArrayPart {
  std::string name;
  std::int64_t num_elements = 0;     // of the whole array
  ElementRange range;
  std::span<const float> values;
};

// Collective. Writes root/step-<superstep, 8 digits> and returns its path. Fills manifest.arrays.
// Throws DataError (disk full with needed and free bytes, no permission, ...) on every rank alike.
std::filesystem::path write_checkpoint(bsp::World& world, const std::filesystem::path& root, Manifest manifest,
                                       std::span<const ArrayPart> parts);

// Opens and verifies the manifest of one checkpoint directory (DataError with exit code kBadCheckpoint).
class CheckpointReader {
 public:
  explicit CheckpointReader(std::filesystem::path directory);
  const Manifest& manifest() const { return manifest_; }
  const std::filesystem::path& directory() const { return directory_; }
  // Reads whole blocks [range.begin, range.end) and verifies them.
  void read(const std::string& array, ElementRange range, std::span<float> values) const;
  void verify() const;               // every block of every array
  // Throws InvalidArgument (exit code kBadCheckpoint) that lists what differs (entries by name and shape).
  void require_model(const ParameterLayout& layout) const;

 private:
  std::filesystem::path directory_;
  Manifest manifest_;
};

// Valid checkpoint directories under root, oldest first (by name; manifests verified; *.tmp ignored).
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& root);
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& root);
// Deletes all but the newest `keep` and those in `pinned` (keep-best). Only on one rank.
void prune_checkpoints(const std::filesystem::path& root, int keep, std::span<const std::filesystem::path> pinned);

}  // namespace superstep::paramserver
