// How a checkpoint lies on the disk: names of directories and files, the files that hold a range of
// an array, and reading and writing at an offset. Used by the writer and the reader; tests use it
// to find the byte of an element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "paramserver/layout.h"

namespace superstep::paramserver {

inline constexpr std::string_view kManifestName = "MANIFEST";
// Byte offsets of files and blocks stay far from overflow.
inline constexpr std::int64_t kMaxArrayElements = std::int64_t{1} << 48;

// "step-00000420"; more digits when the superstep needs them.
std::string step_directory_name(std::int64_t superstep);
// The inverse; nullopt for everything step_directory_name does not produce.
std::optional<std::int64_t> parse_step_directory_name(std::string_view name);
// Whether the name is that of an unfinished write or deletion: "step-00000420.tmp".
bool is_unfinished_step_name(std::string_view name);

// Lower-case letters, digits and "_", at least one: safe as a part of a file name.
bool is_array_name(std::string_view name);
std::string array_file_name(std::string_view array, std::int64_t file_index);

std::int64_t num_blocks(std::int64_t num_elements);
std::int64_t num_files(std::int64_t num_elements, std::int64_t file_elements);
std::int64_t file_bytes(std::int64_t num_elements, std::int64_t file_elements,
                        std::int64_t file_index);

// A part of a range that lies in one file.
struct FilePiece {
  std::int64_t file_index = 0;
  std::int64_t offset = 0;         // bytes
  std::int64_t first_element = 0;  // counted from the beginning of the range
  std::int64_t num_elements = 0;
};
std::vector<FilePiece> file_pieces(ElementRange range, std::int64_t file_elements);

// The block-wise parts of a range: whole blocks, the last one maybe shorter. Offsets count from the
// beginning of the range.
template <typename Function>
void for_each_block(std::int64_t num_elements, Function function) {
  for (std::int64_t begin = 0; begin < num_elements; begin += kBlockElements) {
    const std::int64_t end =
        begin + kBlockElements < num_elements ? begin + kBlockElements : num_elements;
    function(begin, end - begin);
  }
}

// Opens a regular file without following a symbolic link. DataError (kBadCheckpoint) otherwise.
internal::FileDescriptor open_checkpoint_file(const std::filesystem::path& path);
// Size of a regular file, with the same errors.
std::int64_t checkpoint_file_size(const std::filesystem::path& path);
// Reads all of `bytes` at `offset`. DataError (kBadCheckpoint) when the file ends before.
void read_at(const internal::FileDescriptor& file, const std::filesystem::path& path,
             std::int64_t offset, std::span<std::byte> bytes);

// Creates a new file of `num_bytes` with its space reserved, so that a full disk shows here. Throws
// DataError with the bytes needed and free.
void create_reserved_file(const std::filesystem::path& path, std::int64_t num_bytes);
internal::FileDescriptor open_created_file(const std::filesystem::path& path);
void write_at(const internal::FileDescriptor& file, const std::filesystem::path& path,
              std::int64_t offset, std::span<const std::byte> bytes);
void sync_file(const internal::FileDescriptor& file, const std::filesystem::path& path);
// What was synced is read from the storage next, not from the system's memory, where the file
// system follows the advice.
void forget_cached(const internal::FileDescriptor& file, std::int64_t offset,
                   std::int64_t num_bytes);

// Renames path to path.damaged, or .damaged-2, ... where that is taken.
void set_aside(const std::filesystem::path& path);

}  // namespace superstep::paramserver
