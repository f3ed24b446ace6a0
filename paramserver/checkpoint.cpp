#include "paramserver/checkpoint.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_serialize.h"

namespace superstep::paramserver {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kReadCheckpoint = "Checkpoint";

[[noreturn]] void throw_bad(const fs::path& path, std::int64_t offset, std::string_view what) {
  throw DataError(kReadCheckpoint, path.native(), offset, what, ExitCode::kBadCheckpoint);
}

void check_file_sizes(const fs::path& directory, const Manifest& manifest) {
  for (const Manifest::Array& array : manifest.arrays) {
    for (std::int64_t i = 0; i < num_files(array.num_elements, manifest.file_elements); ++i) {
      const fs::path path = directory / array_file_name(array.name, i);
      const std::int64_t expected = file_bytes(array.num_elements, manifest.file_elements, i);
      if (const std::int64_t size = checkpoint_file_size(path); size != expected) {
        throw_bad(path, std::min(size, expected),
                  fmt::format("wrong size: got {} bytes, expected {}", size, expected));
      }
    }
  }
}

// A directory that was renamed to another step would be taken for that step.
void check_directory_name(const fs::path& directory, const Manifest& manifest) {
  const auto named = parse_step_directory_name(directory.filename().native());
  if (named && *named != manifest.position.superstep) {
    throw_bad(directory, -1,
              fmt::format("holds superstep {}, which its name does not say",
                          manifest.position.superstep));
  }
}

// "name (shape) role" lines of a description.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// The first few places where two descriptions differ, as text for people.
std::string describe_differences(const std::string& saved, const std::string& expected) {
  constexpr std::size_t kMostShown = 5;
  const std::vector<std::string> saved_lines = lines_of(saved);
  const std::vector<std::string> expected_lines = lines_of(expected);
  const std::size_t size = std::max(saved_lines.size(), expected_lines.size());
  const auto line = [](const std::vector<std::string>& lines, std::size_t i) {
    return i < lines.size() ? lines[i] : std::string("nothing");
  };
  std::string text;
  std::size_t differing = 0;
  for (std::size_t i = 0; i < size; ++i) {
    if (line(saved_lines, i) == line(expected_lines, i)) {
      continue;
    }
    if (++differing <= kMostShown) {
      text += fmt::format("\n  entry {}: got {}, expected {}", i + 1, line(saved_lines, i),
                          line(expected_lines, i));
    }
  }
  if (differing > kMostShown) {
    text += fmt::format("\n  and {} more entries", differing - kMostShown);
  }
  return text;
}

}  // namespace

Hash128 state_hash(const Manifest& manifest) {
  Hasher hasher;
  hasher.update_integer(static_cast<std::uint64_t>(manifest.arrays.size()));
  for (const Manifest::Array& array : manifest.arrays) {
    hasher.update_integer(static_cast<std::uint64_t>(array.name.size()));
    hasher.update(array.name);
    hasher.update_integer(array.num_elements);
    hasher.update(std::as_bytes(std::span(array.blocks)));
  }
  hasher.update_integer(manifest.position.superstep);
  hasher.update_integer(manifest.position.epoch);
  hasher.update_integer(manifest.position.step_in_epoch);
  hasher.update_integer(manifest.position.seed);
  return hasher.digest();
}

CheckpointReader::CheckpointReader(fs::path directory)
    : directory_(std::move(directory)), manifest_(read_manifest(directory_)) {
  check_directory_name(directory_, manifest_);
  check_file_sizes(directory_, manifest_);
}

const Manifest::Array& CheckpointReader::array(const std::string& name) const {
  std::vector<std::string> names;
  for (const Manifest::Array& candidate : manifest_.arrays) {
    if (candidate.name == name) {
      return candidate;
    }
    names.push_back(candidate.name);
  }
  throw InvalidArgument("CheckpointReader::array",
                        fmt::format("{} has no array \"{}\"{}; it has {}", directory_.native(),
                                    name, did_you_mean(name, names), join(names)));
}

void CheckpointReader::read(const std::string& array, ElementRange range,
                            std::span<float> values) const {
  const Manifest::Array& entry = this->array(array);
  SUPERSTEP_CHECK(range.begin >= 0 && range.begin <= range.end && range.end <= entry.num_elements &&
                      range.begin % kBlockElements == 0 &&
                      (range.end % kBlockElements == 0 || range.end == entry.num_elements),
                  "range of whole blocks", range.begin, range.end);
  SUPERSTEP_CHECK(static_cast<std::int64_t>(values.size()) == range.length(), "values",
                  values.size(), range.length());
  const auto first_block = static_cast<std::size_t>(range.begin / kBlockElements);
  for (const FilePiece& piece : file_pieces(range, manifest_.file_elements)) {
    const fs::path path = directory_ / array_file_name(array, piece.file_index);
    const auto part = values.subspan(static_cast<std::size_t>(piece.first_element),
                                     static_cast<std::size_t>(piece.num_elements));
    read_at(open_checkpoint_file(path), path, piece.offset, std::as_writable_bytes(part));
    std::size_t block =
        first_block + static_cast<std::size_t>(piece.first_element / kBlockElements);
    for_each_block(piece.num_elements, [&](std::int64_t begin, std::int64_t count) {
      const Hash128 actual = hash_span<float>(
          part.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
      const Hash128& expected = entry.blocks[block++];
      if (actual != expected) {
        throw_bad(path, piece.offset + begin * static_cast<std::int64_t>(sizeof(float)),
                  fmt::format("block is damaged: got {}, expected {}", to_text(actual),
                              to_text(expected)));
      }
    });
  }
}

void CheckpointReader::verify() const {
  constexpr std::int64_t kChunk = 256 * kBlockElements;  // 4 MiB
  AlignedBuffer<float> buffer(kChunk, Fill::kTailOnly);
  for (const Manifest::Array& array : manifest_.arrays) {
    for (std::int64_t begin = 0; begin < array.num_elements; begin += kChunk) {
      const ElementRange range{begin, std::min(begin + kChunk, array.num_elements)};
      read(array.name, range, buffer.span().first(static_cast<std::size_t>(range.length())));
    }
  }
}

void CheckpointReader::require_parameters_hash(const Hash128& hash) const {
  if (hash != manifest_.parameters_hash) {
    throw_bad(directory_, -1,
              fmt::format("parameters have hash {}, the manifest says {}", to_text(hash),
                          to_text(manifest_.parameters_hash)));
  }
}

void CheckpointReader::require_model(const ParameterLayout& layout) const {
  const std::string expected = layout.describe();
  if (manifest_.model_description != expected) {
    throw_bad(directory_, -1,
              "is a checkpoint of another model:" +
                  describe_differences(manifest_.model_description, expected));
  }
  for (const Manifest::Array& array : manifest_.arrays) {
    if (array.num_elements != layout.size()) {
      throw_bad(directory_, -1,
                fmt::format("array \"{}\": got {} elements, expected {}", array.name,
                            array.num_elements, layout.size()));
    }
  }
}

}  // namespace superstep::paramserver
