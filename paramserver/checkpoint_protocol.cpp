#include "paramserver/checkpoint_protocol.h"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "paramserver/checkpoint.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_serialize.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

void check_own_part(const ArrayPart& part) {
  const ElementRange range = part.range;
  const bool ends_well = range.end % kBlockElements == 0 || range.end == part.num_elements;
  if (!is_array_name(part.name)) {
    throw InvalidArgument(kWriteCheckpoint,
                          fmt::format("array name: got \"{}\", expected lower-case letters, "
                                      "digits and \"_\"",
                                      part.name));
  }
  if (part.num_elements <= 0 || part.num_elements > kMaxArrayElements) {
    throw InvalidArgument(kWriteCheckpoint,
                          fmt::format("array \"{}\": got {} elements, expected 1 to {}", part.name,
                                      part.num_elements, kMaxArrayElements));
  }
  if (range.begin < 0 || range.begin > range.end || range.end > part.num_elements ||
      (range.length() > 0 && (range.begin % kBlockElements != 0 || !ends_well))) {
    throw InvalidArgument(kWriteCheckpoint,
                          fmt::format("array \"{}\": got range [{}, {}), expected whole "
                                      "blocks within {} elements",
                                      part.name, range.begin, range.end, part.num_elements));
  }
  if (static_cast<std::int64_t>(part.values.size()) != range.length()) {
    throw InvalidArgument(kWriteCheckpoint,
                          fmt::format("array \"{}\": got {} values, expected {}", part.name,
                                      part.values.size(), range.length()));
  }
}

// What must be the same on all ranks, as text.
std::string describe_arrays(std::span<const ArrayPart> parts) {
  std::string text;
  for (const ArrayPart& part : parts) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", part.name, part.num_elements);
  }
  return text;
}

void check_cover(const std::string& array, std::int64_t num_elements,
                 std::vector<ElementRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const ElementRange& a, const ElementRange& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::int64_t covered = 0;
  bool once = true;
  for (const ElementRange range : ranges) {
    if (range.length() > 0) {
      once = once && range.begin == covered;
      covered = range.end;
    }
  }
  if (!once || covered != num_elements) {
    std::string text;
    for (const ElementRange range : ranges) {
      text += fmt::format(" [{}, {})", range.begin, range.end);
    }
    throw InvalidArgument(kWriteCheckpoint,
                          fmt::format("array \"{}\": got the ranks' ranges{}, expected them "
                                      "to cover {} elements exactly once",
                                      array, text, num_elements));
  }
}

}  // namespace

AllRanges agree_on_parts(bsp::World& world, const Position& position,
                         std::span<const ArrayPart> parts) {
  std::for_each(parts.begin(), parts.end(), check_own_part);
  world.require_same("superstep of the checkpoint", std::to_string(position.superstep));
  world.require_same("arrays of the checkpoint", describe_arrays(parts));
  std::vector<std::int64_t> mine;
  for (const ArrayPart& part : parts) {
    mine.insert(mine.end(), {part.range.begin, part.range.end});
  }
  const auto num_ranks = static_cast<std::size_t>(world.size());
  std::vector<std::int64_t> all(mine.size() * num_ranks);
  const std::vector<std::int64_t> counts(num_ranks, static_cast<std::int64_t>(mine.size()));
  world.allgather<std::int64_t>(mine, all, counts);
  AllRanges ranges(parts.size());
  for (std::size_t a = 0; a < parts.size(); ++a) {
    for (std::size_t r = 0; r < num_ranks; ++r) {
      const std::int64_t* pair = &all[r * mine.size() + 2 * a];
      ranges[a].push_back({.begin = pair[0], .end = pair[1]});
    }
    check_cover(parts[a].name, parts[a].num_elements, ranges[a]);
  }
  return ranges;
}

std::vector<std::uint64_t> hash_blocks(std::span<const float> values) {
  std::vector<std::uint64_t> halves;
  for_each_block(
      static_cast<std::int64_t>(values.size()), [&](std::int64_t begin, std::int64_t count) {
        const Hash128 hash = hash_span<float>(
            values.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
        halves.insert(halves.end(), {hash.low, hash.high});
      });
  return halves;
}

Manifest::Array gather_hashes(bsp::World& world, const ArrayPart& part,
                              std::span<const std::uint64_t> hashes,
                              const std::vector<ElementRange>& ranges) {
  std::vector<std::int64_t> counts;
  std::int64_t total = 0;
  for (const ElementRange range : ranges) {
    counts.push_back(2 * num_blocks(range.length()));
    total += counts.back();
  }
  const bool is_root = world.rank() == 0;
  std::vector<std::uint64_t> all(is_root ? static_cast<std::size_t>(total) : 0);
  world.gather<std::uint64_t>(hashes, all, counts, 0);
  Manifest::Array array{.name = part.name, .num_elements = part.num_elements, .blocks = {}};
  if (!is_root) {
    return array;
  }
  array.blocks.resize(static_cast<std::size_t>(num_blocks(part.num_elements)));
  auto next = all.begin();
  for (const ElementRange range : ranges) {
    auto block = static_cast<std::size_t>(range.begin / kBlockElements);
    for (std::int64_t i = 0; i < num_blocks(range.length()); ++i, next += 2) {
      array.blocks[block++] = {.low = next[0], .high = next[1]};
    }
  }
  return array;
}

namespace {

// Looks at what stands where the checkpoint goes, and moves it aside when it is damaged.
Existing examine_target(const fs::path& target, const Manifest& manifest) {
  if (!fs::exists(fs::symlink_status(target))) {
    return Existing::kNothing;
  }
  Hash128 existing;
  try {
    const CheckpointReader reader(target);
    reader.verify();
    existing = reader.manifest().state_hash;
  } catch (const DataError&) {
    set_aside(target);
    return Existing::kNothing;
  }
  if (existing == manifest.state_hash) {
    return Existing::kSameState;
  }
  throw DataError(
      kWriteCheckpoint, target.native(), -1,
      fmt::format("a valid checkpoint of another state is there and is not overwritten: "
                  "got state {}, it has {}; resume from it or use another directory",
                  to_text(manifest.state_hash), to_text(existing)),
      ExitCode::kBadCheckpoint);
}

// Makes the directory with all its files, their space reserved.
void prepare_directory(const fs::path& temporary, const Manifest& manifest) {
  std::error_code error;
  const fs::path root = temporary.parent_path();
  fs::create_directory(root, error);
  if (error == std::errc::no_such_file_or_directory) {
    throw DataError(kWriteCheckpoint, root.parent_path().native(), -1,
                    "no such directory: it was removed or renamed while the run was going on",
                    ExitCode::kFailure);
  }
  if (error) {
    internal::throw_write_error(kWriteCheckpoint, root, "create the directory", error.value());
  }
  // Its own name is to last as long as the checkpoints in it. Not only when it is new: whoever made
  // it may have died before.
  fsync_directory(root.has_parent_path() ? root.parent_path() : fs::path("."));
  fs::remove_all(temporary, error);
  if (!error) {
    fs::create_directory(temporary, error);
  }
  if (error) {
    internal::throw_write_error(kWriteCheckpoint, temporary, "create the directory", error.value());
  }
  for (const Manifest::Array& array : manifest.arrays) {
    for (std::int64_t i = 0; i < num_files(array.num_elements, manifest.file_elements); ++i) {
      create_reserved_file(temporary / array_file_name(array.name, i),
                           file_bytes(array.num_elements, manifest.file_elements, i));
    }
  }
}

}  // namespace

Existing prepare(const fs::path& temporary, const fs::path& target, Manifest& manifest) {
  manifest.state_hash = state_hash(manifest);
  // What decode_manifest would refuse must not be written.
  decode_manifest(encode_manifest(manifest), target / kManifestName);
  const Existing existing = examine_target(target, manifest);
  if (existing == Existing::kNothing) {
    prepare_directory(temporary, manifest);
  }
  return existing;
}

void write_parts(const fs::path& temporary, std::span<const ArrayPart> parts,
                 std::int64_t file_elements) {
  for (const ArrayPart& part : parts) {
    for (const FilePiece& piece : file_pieces(part.range, file_elements)) {
      const fs::path path = temporary / array_file_name(part.name, piece.file_index);
      const internal::FileDescriptor file = open_created_file(path);
      const auto values = part.values.subspan(static_cast<std::size_t>(piece.first_element),
                                              static_cast<std::size_t>(piece.num_elements));
      SUPERSTEP_FAILPOINT("checkpoint.write");
      write_at(file, path, piece.offset, std::as_bytes(values));
      sync_file(file, path);
    }
  }
}

void reread_parts(const fs::path& temporary, std::span<const ArrayPart> parts,
                  std::int64_t file_elements) {
  std::vector<float> block(kBlockElements);
  for (const ArrayPart& part : parts) {
    for (const FilePiece& piece : file_pieces(part.range, file_elements)) {
      const fs::path path = temporary / array_file_name(part.name, piece.file_index);
      const internal::FileDescriptor file = open_created_file(path);
      forget_cached(file, piece.offset, piece.num_elements * std::int64_t{sizeof(float)});
      for_each_block(piece.num_elements, [&](std::int64_t begin, std::int64_t count) {
        const std::int64_t offset = piece.offset + begin * static_cast<std::int64_t>(sizeof(float));
        const std::span<float> read(block.data(), static_cast<std::size_t>(count));
        read_at(file, path, offset, std::as_writable_bytes(read));
        const auto written = part.values.subspan(
            static_cast<std::size_t>(piece.first_element + begin), static_cast<std::size_t>(count));
        if (std::memcmp(read.data(), written.data(), written.size_bytes()) != 0) {
          throw DataError(kWriteCheckpoint, path.native(), offset,
                          "read back other bytes than were written: the storage loses data",
                          ExitCode::kFailure);
        }
      });
    }
  }
}

void seal(const fs::path& temporary, const fs::path& target, const Manifest& manifest) {
  const std::vector<std::byte> frame = encode_manifest(manifest);
  const fs::path path = temporary / kManifestName;
  create_reserved_file(path, static_cast<std::int64_t>(frame.size()));
  SUPERSTEP_FAILPOINT("checkpoint.manifest");
  const internal::FileDescriptor file = open_created_file(path);
  write_at(file, path, 0, frame);
  sync_file(file, path);
  forget_cached(file, 0, static_cast<std::int64_t>(frame.size()));
  std::vector<std::byte> read(frame.size());
  read_at(file, path, 0, read);
  if (read != frame) {
    throw DataError(kWriteCheckpoint, path.native(), 0,
                    "read back other bytes than were written: the storage loses data",
                    ExitCode::kFailure);
  }
  SUPERSTEP_FAILPOINT("checkpoint.rename");
  rename_directory(temporary, target);
}

}  // namespace superstep::paramserver
