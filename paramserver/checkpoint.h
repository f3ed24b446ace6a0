// Checkpoints: a directory per step that holds nothing shaped by ranks.
//
//   checkpoints/step-00000420/parameters-00000.bin   flat little-endian float32, fixed-size files
//                             momentum-00000.bin     one series of files per optimizer state array
//                             MANIFEST               written last: verified frame around a Boost
//                             archive
//
// Files of an array hold file_elements elements each (the last one fewer), cut at fixed places, so
// the bytes are the same for every number of ranks. Each rank writes its own blocks; every block of
// 4,096 elements has an XXH3-128 in the manifest, and a damaged file is refused with its name and
// the byte offset of the first damaged block. The directory is written under a temporary name
// (step-N.tmp), every file and directory is fsynced, what was written is read again and compared,
// and one rename makes it valid: a run that is killed at any moment leaves the older checkpoints as
// they were. XXH3 finds damage, not forgery.
//
//   write_checkpoint(world, run / "checkpoints", manifest, server.parts());       // collective
//
//   std::vector<std::string> problems;
//   if (auto newest = newest_verified_checkpoint(run / "checkpoints", &problems)) {
//     CheckpointReader reader(*newest);
//     reader.require_model(model.layout());
//     reader.read("parameters", my_shard, values);
//   }
//
// Cost of writing n elements of state on p ranks: each rank hashes, writes and reads about n/p
// elements, 16 bytes per block go to rank 0, and about a dozen small collectives (l each, no bulk
// data) let all ranks go on or fail together.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
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
  std::int64_t superstep = 0;  // supersteps done since the run began
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;
  std::uint64_t seed = 0;
  friend bool operator==(const Position&, const Position&) = default;
};

struct Manifest {
  std::string run_id;
  std::string program_version;
  std::string model_description;  // ParameterLayout::describe() of the model
  std::string configuration;      // resolved TOML text of the run
  OptimizerSpec optimizer;
  LearningRateSchedule schedule;
  Position position;
  std::map<std::string, double> numbers;  // best accuracy so far and the like (trainer's memory)
  std::map<std::string, std::string> texts;
  struct Array {
    std::string name;  // "parameters", then state arrays; lower-case letters, digits, "_"
    std::int64_t num_elements = 0;
    std::vector<Hash128> blocks;  // one per 4,096 elements (the last block may be shorter)
    friend bool operator==(const Array&, const Array&) = default;
  };
  std::vector<Array> arrays;
  std::int64_t file_elements = kFileElements;  // a multiple of kBlockElements
  Hash128 parameters_hash;                     // ParameterLayout::parameters_hash; the caller's
  Hash128 state_hash;                          // state_hash(*this); filled by write_checkpoint
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

// XXH3-128 over what the run continues from: the number of arrays; per array, in order, the length
// of its name, the name, num_elements and its blocks' hashes (low half, then high half); then
// superstep, epoch, step_in_epoch and seed of the position. Numbers are 64-bit little-endian. It
// depends on contents only, never on ranks or on file_elements.
Hash128 state_hash(const Manifest& manifest);

// This rank's part of an array: elements [range.begin, range.end), whole blocks (the end may also
// be the array's). Every rank lists the same arrays in the same order; the ranges of all ranks,
// some of them empty, cover each array exactly once.
struct ArrayPart {
  std::string name;
  std::int64_t num_elements = 0;  // of the whole array
  ElementRange range;
  std::span<const float> values;
  // If given: is called with the hashes of the blocks that will be written (low half and high half
  // by block), by any thread; throws when they are not those of what was left in memory.
  std::function<void(std::span<const std::uint64_t>)> check_hashes = nullptr;
};

struct WrittenCheckpoint {
  std::filesystem::path directory;
  Hash128 state_hash;
  Hash128 parameters_hash;
  std::int64_t superstep = 0;
};

// Collective. Waits until it is done; paramserver/checkpoint_writer.h goes on meanwhile.
// Writes root/step-<superstep, 8 digits> (root is made when missing, in a directory
// that must be there: a run that was removed is not brought back to life) and returns on every rank
// where it is and what it holds.
// Fills manifest.arrays and manifest.state_hash; the rest of the manifest is rank 0's, and its
// superstep must be the same on all ranks. Leftovers of an earlier attempt (step-N.tmp) are removed
// first.
//
// A valid checkpoint is never overwritten: when step-N exists with the same state_hash, it is left
// as it is; with another one, DataError. A damaged step-N is renamed to step-N.damaged (.damaged-2,
// ...).
//
// On failure (disk full with needed and free bytes, no permission, a directory that the nodes do
// not share, ...) step-N.tmp is removed and every rank throws the same DataError, which names the
// rank.
WrittenCheckpoint write_checkpoint(bsp::World& world, const std::filesystem::path& root,
                                   Manifest manifest, std::span<const ArrayPart> parts);

// Opens one checkpoint directory and verifies its manifest and the sizes of its files. Everything
// that is wrong is a DataError with exit code kBadCheckpoint, path and offset. Files that are
// symbolic links are refused: a checkpoint holds its own bytes. Not collective; const members are
// thread-safe.
class CheckpointReader {
 public:
  explicit CheckpointReader(std::filesystem::path directory);
  const Manifest& manifest() const { return manifest_; }
  const std::filesystem::path& directory() const { return directory_; }
  // Throws InvalidArgument with the nearest name.
  const Manifest::Array& array(const std::string& name) const;
  // Reads elements [range.begin, range.end), whole blocks or up to the end of the array, and
  // verifies them. values.size() == range.length(); after an exception the content of values is
  // unspecified.
  void read(const std::string& array, ElementRange range, std::span<float> values) const;
  void verify() const;  // every block of every array
  // DataError (kBadCheckpoint) unless the parameters of the whole model have this hash.
  void require_parameters_hash(const Hash128& hash) const;
  // Throws DataError (exit code kBadCheckpoint) that lists what differs (entries by name and
  // shape).
  void require_model(const ParameterLayout& layout) const;

 private:
  std::filesystem::path directory_;
  Manifest manifest_;
};

// Valid checkpoint directories under root, oldest first (manifests and file sizes verified; damaged
// ones, *.tmp, files and symbolic links are ignored). Empty when root does not exist.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& root);
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& root);

struct ExaminedCheckpoint {
  std::filesystem::path directory;
  std::string problem;  // empty: every byte verified
};
// Whatever is named like a finished checkpoint, oldest first, damaged or not. Reads all of it.
std::vector<ExaminedCheckpoint> examine_checkpoints(const std::filesystem::path& root);
// The newest one whose every byte is verified; what was skipped and why is appended to `problems`.
// With the layout of the model, the hash of its parameters is verified, too (where the checkpoint
// is of that model). Its name survives a loss of power from now on: whoever sealed it may have died
// before that.
std::optional<std::filesystem::path> newest_verified_checkpoint(
    const std::filesystem::path& root, std::vector<std::string>* problems,
    const ParameterLayout* layout = nullptr);
// What a run that goes on from `superstep` has passed over: renames newer ones to step-N.damaged,
// so that they are neither counted nor found again. Only on one rank.
void set_aside_newer(const std::filesystem::path& root, std::int64_t superstep);
// Deletes all but the newest `keep` >= 1 valid ones and those in `pinned` (keep-best), and what
// unfinished writes and deletions left (step-N.tmp). Those newer than `newest`, the one just
// written, neither count nor go. Valid means manifest and sizes: bytes are not read here. Only on
// one rank, not during a write_checkpoint.
inline constexpr std::int64_t kAnySuperstep = std::numeric_limits<std::int64_t>::max();
void prune_checkpoints(const std::filesystem::path& root, int keep,
                       std::span<const std::filesystem::path> pinned,
                       std::int64_t newest = kAnySuperstep);

}  // namespace superstep::paramserver
