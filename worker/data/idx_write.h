// Writes labelled samples as a pair of IDX files, the format that idx.h reads.
//
//   IdxPartWriter part(directory, "train", dataset.sample_shape(), dataset.size());
//   part.add(sample, label);                 // one by one, all of them
//   part.commit();                           // both files appear
//
// Files that exist are left alone and refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "kernels/shape.h"
#include "worker/data/dataset.h"

namespace superstep::worker {

class IdxPartWriter {
 public:
  // Makes directory/<part>-images-idx3-ubyte and directory/<part>-labels-idx1-ubyte.
  IdxPartWriter(const std::filesystem::path& directory, const std::string& part,
                const kernels::Shape& sample_shape, std::int64_t num_samples);

  // `sample`: values as in a file, without normalisation. Throws InvalidArgument unless they are
  // bytes, and the label is one.
  void add(std::span<const float> sample, std::int64_t label);
  // Throws a failed check unless all samples were added.
  void commit();

 private:
  std::int64_t missing_;
  AtomicFile images_;
  AtomicFile labels_;
  std::vector<std::uint8_t> bytes_;
};

void write_idx_part(const Dataset& dataset, const std::filesystem::path& directory,
                    const std::string& part);

}  // namespace superstep::worker
