// A random-access source of labelled samples, held in memory as it was on disk.
//
// Samples are read by index, so shuffling stores indices and never samples, and every rank can read
// any sample. Rows are assembled into float32 batches by a Normalization; labels are int64 class
// indices.
//
//   LabelledData data = idx_directory("/usr/share/datasets/fashion-mnist");
//   Normalization normalization = mean_std_normalization(*data.train);
//   data.train->read(indices, normalization, images, labels);   // thread-safe
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/shape.h"

namespace superstep::worker {

// value = (raw * scale - mean) / standard_deviation with raw in the file's own units. The other
// fields decide; `kind` says where they come from.
struct Normalization {
  enum class Kind : std::uint8_t { kUnit, kMeanStd, kNone };
  Kind kind = Kind::kMeanStd;
  float scale = 1.0F / 255.0F;
  float mean = 0.0F;
  float standard_deviation = 1.0F;

  // Bytes become [0, 1].
  static Normalization unit() { return {.kind = Kind::kUnit}; }
  // Values as they are in the file.
  static Normalization none() { return {.kind = Kind::kNone, .scale = 1.0F}; }

  float apply(float raw) const { return (raw * scale - mean) / standard_deviation; }
  friend bool operator==(const Normalization&, const Normalization&) = default;
};

// How often each byte value occurs.
using ByteHistogram = std::array<std::int64_t, 256>;

// Where samples are kept that were read from files. The bits are the same.
enum class Storage : std::uint8_t {
  kProcess,  // in memory of this process
  // Once for all processes of the job on a machine: a plain file is mapped, and must not change
  // while the program runs; a packed one is unpacked once (worker/data/node_bytes.h), where there
  // is more than one process and space for it.
  kNode,
};

// Whose samples are whose, for sources that know: client g has the samples [cuts[g], cuts[g + 1]).
struct SampleGroups {
  std::vector<std::int64_t> cuts;
  std::vector<std::string> names;
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  virtual kernels::Shape sample_shape() const = 0;  // without the batch axis: (1, 28, 28) or (784)
  virtual int num_classes() const = 0;
  // Identity of the data for the handshake and provenance: source, counts, XXH3-128 of the content.
  // Does not depend on the directory the data lie in.
  virtual std::string fingerprint() const = 0;
  // Writes sample i, normalised, to out (sample_shape elements) for every index, and its label.
  // Thread-safe. Allocates nothing. Throws InvalidArgument for an index out of range. Cost: one
  // pass over the samples.
  virtual void read(std::span<const std::int64_t> indices, const Normalization& normalization,
                    std::span<float> out, std::span<std::int64_t> labels) const = 0;
  // Where samples lie in memory, for those who see to it that they stay there. Empty: they are
  // made when they are read.
  virtual std::vector<std::span<const std::byte>> sample_memory() const { return {}; }
  // The label of every sample. Cost: O(size) for data in memory; the default reads every sample.
  virtual std::vector<std::int64_t> labels() const;
  // nullptr when the source does not say. Valid as long as the dataset.
  virtual const SampleGroups* groups() const { return nullptr; }
  // Of all values of the samples [begin, end); nullopt when samples are not bytes.
  virtual std::optional<ByteHistogram> byte_histogram(std::int64_t begin, std::int64_t end) const;
};

// A contiguous part of another dataset (validation split). Throws InvalidArgument unless
// 0 <= begin < end <= dataset->size().
std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> dataset, std::int64_t begin,
                                      std::int64_t end);

// Mean and standard deviation (over all values, n in the denominator) of the data in unit scale:
// the same bits on every rank. Bytes are counted in a histogram, so their order does not matter;
// other data are added in index order in double. Throws InvalidArgument when all values are equal.
Normalization mean_std_normalization(const Dataset& dataset);

// Labelled synthetic images for tests and demonstrations: a coarse random pattern per class plus
// uniform noise of the given standard deviation (in units of the pattern's), stored as bytes.
// Sample i has class i mod num_classes; its noise is a function of (seed, i), the pattern of its
// class of pattern_seed, with the same bits on every machine. Two seeds with one pattern_seed are
// two draws from one problem: training and test data.
struct SyntheticOptions {
  std::int64_t num_samples = 512;
  kernels::Shape sample_shape{3, 32, 32};
  int num_classes = 10;
  std::uint64_t seed = 1;
  float noise = 0.5F;
  std::uint64_t pattern_seed = 1;
};
std::shared_ptr<const Dataset> synthetic_dataset(const SyntheticOptions& options);
// The same without the samples, for planning: sizes, shape and classes are those of
// synthetic_dataset, read() is a failed check, the fingerprint says that no content was made. Cost
// and memory do not depend on num_samples.
std::shared_ptr<const Dataset> synthetic_outline(const SyntheticOptions& options);

// The training and test parts of an IDX directory: train-images-idx3-ubyte,
// train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each plain or with .gz
// (plain wins). Throws DataError with file and byte offset (worker/data/idx.h lists the reasons).
struct LabelledData {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> test;
};
LabelledData idx_directory(const std::string& directory, int num_classes = 10,
                           Storage storage = Storage::kProcess);
// One part alone: the files of the other need not be there.
std::shared_ptr<const Dataset> idx_train_part(const std::string& directory, int num_classes = 10,
                                              Storage storage = Storage::kProcess);
std::shared_ptr<const Dataset> idx_test_part(const std::string& directory, int num_classes = 10,
                                             Storage storage = Storage::kProcess);

}  // namespace superstep::worker
