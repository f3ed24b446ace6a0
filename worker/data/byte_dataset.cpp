#include "worker/data/byte_dataset.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"

namespace superstep::worker {

namespace {

constexpr int kMaxByteClasses = 256;

void check_content(const SharedByteSamples& content, std::int64_t sample_elements) {
  constexpr auto kWhere = "ByteDataset";
  if (content.num_classes < 1 || content.num_classes > kMaxByteClasses) {
    throw InvalidArgument(kWhere, fmt::format("num_classes out of range: got {}, expected 1 to {}",
                                              content.num_classes, kMaxByteClasses));
  }
  const auto num_labels = static_cast<std::int64_t>(content.labels.size());
  const auto num_values = static_cast<std::int64_t>(content.samples.size());
  if (sample_elements < 1 || num_values % sample_elements != 0 ||
      num_values / sample_elements != num_labels) {
    throw InvalidArgument(
        kWhere,
        fmt::format("sizes do not fit: got {} values and {} labels, expected {} values per "
                    "label for samples of shape {}",
                    num_values, num_labels, sample_elements, content.sample_shape.to_string()));
  }
  for (std::size_t i = 0; i < content.labels.size(); ++i) {
    if (content.labels[i] >= content.num_classes) {
      throw InvalidArgument(
          kWhere, fmt::format("label of sample {} out of range: got {}, expected 0 to {}", i,
                              content.labels[i], content.num_classes - 1));
    }
  }
}

std::string make_fingerprint(const SharedByteSamples& content) {
  Hasher hasher;
  hasher.update(std::as_bytes(content.samples.span()));
  hasher.update(std::as_bytes(content.labels.span()));
  return fmt::format("{}: {} samples of {}, {} classes, {}", content.source, content.labels.size(),
                     content.sample_shape.to_string(), content.num_classes,
                     to_text(hasher.digest()));
}

// One sample: vectorises to convert, multiply, subtract, divide.
void normalize(const std::uint8_t* raw, std::int64_t count, const Normalization& normalization,
               float* out) {
  const float scale = normalization.scale;
  const float mean = normalization.mean;
  const float standard_deviation = normalization.standard_deviation;
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = (static_cast<float>(raw[i]) * scale - mean) / standard_deviation;
  }
}

}  // namespace

ByteDataset::ByteDataset(ByteSamples samples)
    : ByteDataset(SharedByteSamples{.source = std::move(samples.source),
                                    .sample_shape = std::move(samples.sample_shape),
                                    .num_classes = samples.num_classes,
                                    .samples = ByteArray(std::move(samples.samples)),
                                    .labels = ByteArray(std::move(samples.labels))}) {}

ByteDataset::ByteDataset(SharedByteSamples samples)
    : content_(std::move(samples)), sample_elements_(content_.sample_shape.num_elements()) {
  check_content(content_, sample_elements_);
  fingerprint_ = make_fingerprint(content_);
}

std::int64_t ByteDataset::size() const {
  return static_cast<std::int64_t>(content_.labels.size());
}

void ByteDataset::read(std::span<const std::int64_t> indices, const Normalization& normalization,
                       std::span<float> out, std::span<std::int64_t> labels) const {
  const auto elements = static_cast<std::size_t>(sample_elements_);
  SUPERSTEP_CHECK(out.size() == indices.size() * elements && labels.size() == indices.size(),
                  "buffers of a read of", indices.size(), "samples:", out.size(), labels.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const std::int64_t index = indices[i];
    if (index < 0 || index >= size()) {
      throw InvalidArgument(
          "Dataset::read",
          fmt::format("sample index out of range: got {}, expected 0 to {}", index, size() - 1));
    }
    normalize(content_.samples.data() + index * sample_elements_, sample_elements_, normalization,
              out.data() + i * elements);
    labels[i] = content_.labels[static_cast<std::size_t>(index)];
  }
}

std::optional<ByteHistogram> ByteDataset::byte_histogram(std::int64_t begin,
                                                         std::int64_t end) const {
  SUPERSTEP_CHECK(0 <= begin && begin <= end && end <= size(), "sample range", begin, end);
  ByteHistogram histogram{};
  std::for_each(content_.samples.begin() + begin * sample_elements_,
                content_.samples.begin() + end * sample_elements_,
                [&](std::uint8_t value) { ++histogram[value]; });
  return histogram;
}

}  // namespace superstep::worker
