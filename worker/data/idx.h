// Reads IDX files: the format of MNIST and its relatives, plain or gzip.
//
// An IDX file is a magic number (two zero bytes, element type, number of dimensions), one 32-bit
// big-endian size per dimension, and the values, last dimension fastest. Images and labels here are
// bytes; other element types are recognised and refused by name.
//
//   IdxArray images = read_idx(directory / "train-images-idx3-ubyte.gz", IdxContent::kImages);
//   // images.sizes == {60000, 28, 28}; images.values.size() == 47040000
//
// Everything wrong with a file is a DataError with file, byte offset (in the uncompressed content,
// or in the file where the gzip stream itself is broken), what was found and what was expected. No
// allocation is larger than the content that was really read (times two) whatever the sizes say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "worker/data/byte_array.h"
#include "worker/data/dataset.h"

namespace superstep::worker {

enum class IdxContent : std::uint8_t {
  kImages,  // (N, D), (N, H, W) or (N, C, H, W)
  kLabels,  // (N)
};

struct IdxArray {
  std::filesystem::path path;
  std::vector<std::int64_t> sizes;  // all at least 1
  ByteArray values;

  std::int64_t num_items() const { return sizes.front(); }
  // Offset in the uncompressed content of value `index`.
  std::int64_t byte_offset(std::int64_t index) const {
    return 4 + 4 * static_cast<std::int64_t>(sizes.size()) + index;
  }
};

IdxArray read_idx(const std::filesystem::path& path, IdxContent content,
                  Storage storage = Storage::kProcess);

// The file `stem` of the directory, plain if it is there, else with ".gz". Throws DataError when
// neither exists.
std::filesystem::path find_idx_file(const std::filesystem::path& directory,
                                    const std::string& stem);

// Throw DataError: as many labels as images; every label below num_classes (the first one that is
// not is named by its index and byte offset).
void check_counts_match(const IdxArray& images, const IdxArray& labels);
void check_labels(const IdxArray& labels, int num_classes);

}  // namespace superstep::worker
