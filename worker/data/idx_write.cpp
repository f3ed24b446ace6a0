#include "worker/data/idx_write.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/checked_cast.h"
#include "base/error.h"

namespace superstep::worker {

namespace {

constexpr std::uint8_t kBytes = 0x08;  // element type

std::vector<std::byte> idx_header_bytes(const std::vector<std::int64_t>& sizes) {
  std::vector<std::byte> bytes{std::byte{0}, std::byte{0}, std::byte{kBytes},
                               static_cast<std::byte>(sizes.size())};
  for (const std::int64_t size : sizes) {
    const auto value = checked_cast<std::uint32_t>(size);
    for (const int shift : {24, 16, 8, 0}) {
      bytes.push_back(static_cast<std::byte>(value >> shift & 0xFFU));
    }
  }
  return bytes;
}

// (N, H, W) for one channel, as readers of MNIST expect; else (N, C, H, W) or (N, D).
std::vector<std::int64_t> image_sizes(const kernels::Shape& sample_shape,
                                      std::int64_t num_samples) {
  std::vector<std::int64_t> sizes{num_samples};
  const auto& all = sample_shape.sizes();
  const bool one_channel = all.size() == 3 && *all.begin() == 1;
  sizes.insert(sizes.end(), all.begin() + (one_channel ? 1 : 0), all.end());
  return sizes;
}

AtomicFile file_with_header(const std::filesystem::path& path,
                            const std::vector<std::int64_t>& sizes) {
  AtomicFile file(path, IfExists::kRefuse);
  file.write(idx_header_bytes(sizes));
  return file;
}

std::uint8_t byte_of(double value, const char* what) {
  if (!(value >= 0.0 && value <= 255.0) || value != std::floor(value)) {
    throw InvalidArgument("IdxPartWriter",
                          fmt::format("{}: got {}, expected a whole number of 0 to 255 (IDX files "
                                      "hold bytes here)",
                                      what, value));
  }
  return static_cast<std::uint8_t>(value);
}

}  // namespace

IdxPartWriter::IdxPartWriter(const std::filesystem::path& directory, const std::string& part,
                             const kernels::Shape& sample_shape, std::int64_t num_samples)
    : missing_(num_samples),
      images_(file_with_header(directory / (part + "-images-idx3-ubyte"),
                               image_sizes(sample_shape, num_samples))),
      labels_(file_with_header(directory / (part + "-labels-idx1-ubyte"), {num_samples})),
      bytes_(as_size(sample_shape.num_elements())) {}

void IdxPartWriter::add(std::span<const float> sample, std::int64_t label) {
  SUPERSTEP_CHECK(sample.size() == bytes_.size() && missing_ > 0, "values of a sample",
                  sample.size(), "samples missing", missing_);
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    bytes_[i] = byte_of(static_cast<double>(sample[i]), "value of a sample");
  }
  const std::uint8_t label_byte = byte_of(static_cast<double>(label), "label of a sample");
  images_.write(std::as_bytes(std::span<const std::uint8_t>(bytes_)));
  labels_.write(std::as_bytes(std::span<const std::uint8_t>(&label_byte, 1)));
  --missing_;
}

void IdxPartWriter::commit() {
  SUPERSTEP_CHECK(missing_ == 0, "samples that were not added", missing_);
  images_.commit();
  labels_.commit();
}

void write_idx_part(const Dataset& dataset, const std::filesystem::path& directory,
                    const std::string& part) {
  IdxPartWriter writer(directory, part, dataset.sample_shape(), dataset.size());
  std::vector<float> sample(as_size(dataset.sample_shape().num_elements()));
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    std::int64_t label = 0;
    dataset.read({&i, 1}, Normalization::none(), sample, {&label, 1});
    writer.add(sample, label);
  }
  writer.commit();
}

}  // namespace superstep::worker
