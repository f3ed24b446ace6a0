// A random-access source of labelled samples, held in memory as it was on disk.
//
// Samples are read by index, so shuffling stores indices and never samples, and every rank can read any
// sample. Rows are assembled into float32 batches by a Normalization; labels are int64 class indices.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/shape.h"

namespace superstep::worker {

// value = (raw * scale - mean) / standard_deviation with raw in the file's own units.
struct Normalization {
  enum class Kind : std::uint8_t { kUnit, kMeanStd, kNone };
  Kind kind = Kind::kMeanStd;
  float scale = 1.0F / 255.0F;
  float mean = 0.0F;
  float standard_deviation = 1.0F;

  float apply(float raw) const { return (raw * scale - mean) / standard_deviation; }
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  virtual kernels::Shape sample_shape() const = 0;      // without the batch axis: (1, 28, 28) or (784)
  virtual int num_classes() const = 0;
  // Identity of the data for the handshake and provenance: source, counts, XXH3-128 of the content.
  virtual std::string fingerprint() const = 0;
  // Writes sample i, normalised, to out (sample_shape elements) for every index, and its label.
  // Thread-safe. Cost: one pass over the samples.
  virtual void read(std::span<const std::int64_t> indices, const Normalization& normalization, std::span<float> out,
                    std::span<std::int64_t> labels) const = 0;
};

// A contiguous part of another dataset (validation split).
std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> dataset, std::int64_t begin, std::int64_t end);

// Mean and standard deviation of all values (unit scale), in double, in index order: the same on every rank.
Normalization mean_std_normalization(const Dataset& dataset);

// Labelled synthetic images for tests and demonstrations: class prototypes plus noise, keyed by (seed, index).
struct SyntheticOptions {
  std::int64_t num_samples = 512;
  kernels::Shape sample_shape{3, 32, 32};
  int num_classes = 10;
  std::uint64_t seed = 1;
  float noise = 0.5F;
};
std::shared_ptr<const Dataset> synthetic_dataset(const SyntheticOptions& options);

// The training and test parts of an IDX directory: train-images-idx3-ubyte, train-labels-idx1-ubyte,
// t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each plain or with .gz. Throws DataError with file and
// byte offset: wrong magic, truncated, trailing bytes, counts differ, label >= num_classes.
struct LabelledData {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> test;
};
LabelledData idx_directory(const std::string& directory, int num_classes = 10);

}  // namespace superstep::worker
