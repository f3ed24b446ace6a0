// A dataset whose samples are bytes in memory, as image files have them.
//
// Conversion to float32 and normalisation are one pass at read(); nothing is kept as floats, so a
// sample costs one byte per value. Each value has the bits of Normalization::apply.
//
//   ByteDataset data({.source = "two squares", .sample_shape = {1, 2, 2}, .num_classes = 2,
//                     .samples = {0, 0, 0, 255, 255, 255, 255, 0}, .labels = {0, 1}});
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "worker/data/byte_array.h"
#include "worker/data/dataset.h"

namespace superstep::worker {

struct ByteSamples {
  std::string source;  // for the fingerprint: what the data are, not where they lie
  kernels::Shape sample_shape;
  int num_classes = 0;
  std::vector<std::uint8_t> samples;  // sample after sample, row-major
  std::vector<std::uint8_t> labels;
};

// The same with bytes that may be shared between processes.
struct SharedByteSamples {
  std::string source;
  kernels::Shape sample_shape;
  int num_classes = 0;
  ByteArray samples;
  ByteArray labels;
};

class ByteDataset final : public Dataset {
 public:
  // Throws InvalidArgument when sizes do not fit or a label is not below num_classes. Hashes the
  // content once.
  explicit ByteDataset(ByteSamples samples);
  explicit ByteDataset(SharedByteSamples samples);

  std::int64_t size() const override;
  kernels::Shape sample_shape() const override { return content_.sample_shape; }
  int num_classes() const override { return content_.num_classes; }
  std::string fingerprint() const override { return fingerprint_; }
  void read(std::span<const std::int64_t> indices, const Normalization& normalization,
            std::span<float> out, std::span<std::int64_t> labels) const override;
  std::vector<std::span<const std::byte>> sample_memory() const override {
    return {std::as_bytes(content_.samples.span()), std::as_bytes(content_.labels.span())};
  }
  std::vector<std::int64_t> labels() const override {
    return {content_.labels.begin(), content_.labels.end()};
  }
  std::optional<ByteHistogram> byte_histogram(std::int64_t begin, std::int64_t end) const override;

 private:
  SharedByteSamples content_;
  std::int64_t sample_elements_ = 0;
  std::string fingerprint_;
};

}  // namespace superstep::worker
