#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/philox.h"
#include "worker/data/byte_dataset.h"
#include "worker/data/dataset.h"

namespace superstep::worker {

namespace {

// Patterns are constant on cells of this many pixels squared, so that a convolution with pooling
// can tell them apart as well as a dense layer can.
constexpr std::int64_t kCellPixels = 4;
constexpr float kMiddle = 127.5F;
constexpr float kAmplitude = 60.0F;               // of the pattern, in byte units
constexpr float kUniformHalfWidth = 1.7320508F;   // sqrt(3): unit standard deviation
constexpr float kPatternDeviation = 0.57735027F;  // of U(-1, 1): 1 / sqrt(3)

void check_options(const SyntheticOptions& options) {
  constexpr auto kWhere = "synthetic_dataset";
  if (options.num_samples < 1) {
    throw InvalidArgument(
        kWhere, fmt::format("num_samples: got {}, expected at least 1", options.num_samples));
  }
  if (options.num_classes < 1 || options.num_classes > 256) {
    throw InvalidArgument(
        kWhere, fmt::format("num_classes: got {}, expected 1 to 256", options.num_classes));
  }
  if (options.sample_shape.rank() < 1 || options.sample_shape.num_elements() < 1) {
    throw InvalidArgument(kWhere, fmt::format("sample_shape: got {}, expected at least one axis "
                                              "and one value",
                                              options.sample_shape.to_string()));
  }
  if (!(options.noise >= 0.0F) || !std::isfinite(options.noise)) {
    throw InvalidArgument(
        kWhere, fmt::format("noise: got {}, expected a finite number >= 0", options.noise));
  }
}

// Values in [-1, 1). Images (C, H, W) get one value per channel and cell, other shapes one per
// value.
std::vector<float> class_pattern(const SyntheticOptions& options, int label) {
  std::vector<float> pattern(static_cast<std::size_t>(options.sample_shape.num_elements()));
  const PhiloxStream stream(options.pattern_seed, stream_id("synthetic pattern"), label);
  if (options.sample_shape.rank() != 3) {
    fill_uniform(pattern, stream, -1.0F, 1.0F);
    return pattern;
  }
  const std::int64_t height = options.sample_shape[1];
  const std::int64_t width = options.sample_shape[2];
  const std::int64_t cells_down = (height + kCellPixels - 1) / kCellPixels;
  const std::int64_t cells_across = (width + kCellPixels - 1) / kCellPixels;
  std::vector<float> cells(
      static_cast<std::size_t>(options.sample_shape[0] * cells_down * cells_across));
  fill_uniform(cells, stream, -1.0F, 1.0F);
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const std::int64_t row = at / width % height / kCellPixels;
    const std::int64_t column = at % width / kCellPixels;
    const std::int64_t channel = at / (height * width);
    pattern[i] =
        cells[static_cast<std::size_t>((channel * cells_down + row) * cells_across + column)];
  }
  return pattern;
}

void write_sample(const std::vector<float>& pattern, const SyntheticOptions& options,
                  std::int64_t index, std::span<float> noise, std::span<std::uint8_t> out) {
  const PhiloxStream stream(options.seed, stream_id("synthetic noise"), index);
  const float half_width = kUniformHalfWidth * kPatternDeviation * options.noise;
  fill_uniform(noise, stream, -half_width, half_width);
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const float value = kMiddle + kAmplitude * (pattern[i] + noise[i]);
    out[i] = static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F));
  }
}

std::string source_of(const SyntheticOptions& options) {
  return fmt::format("synthetic seed {} patterns {} noise {}", options.seed, options.pattern_seed,
                     options.noise);
}

class Outline final : public Dataset {
 public:
  explicit Outline(const SyntheticOptions& options) : options_(options) {}

  std::int64_t size() const override { return options_.num_samples; }
  kernels::Shape sample_shape() const override { return options_.sample_shape; }
  int num_classes() const override { return options_.num_classes; }
  std::string fingerprint() const override {
    return fmt::format("{}: {} samples of {}, {} classes, not made", source_of(options_), size(),
                       sample_shape().to_string(), num_classes());
  }
  void read(std::span<const std::int64_t> indices, const Normalization& /*normalization*/,
            std::span<float> /*out*/, std::span<std::int64_t> /*labels*/) const override {
    SUPERSTEP_CHECK(indices.empty(), "an outline has no samples to read, asked for",
                    indices.size());
  }

 private:
  SyntheticOptions options_;
};

}  // namespace

std::shared_ptr<const Dataset> synthetic_outline(const SyntheticOptions& options) {
  check_options(options);
  return std::make_shared<Outline>(options);
}

std::shared_ptr<const Dataset> synthetic_dataset(const SyntheticOptions& options) {
  check_options(options);
  std::vector<std::vector<float>> patterns;
  for (int label = 0; label < options.num_classes; ++label) {
    patterns.push_back(class_pattern(options, label));
  }
  const std::size_t elements = patterns.front().size();
  ByteSamples content{.source = source_of(options),
                      .sample_shape = options.sample_shape,
                      .num_classes = options.num_classes,
                      .samples = std::vector<std::uint8_t>(
                          static_cast<std::size_t>(options.num_samples) * elements),
                      .labels = {}};
  std::vector<float> noise(elements);
  for (std::int64_t i = 0; i < options.num_samples; ++i) {
    const auto label = static_cast<std::size_t>(i % options.num_classes);
    write_sample(patterns[label], options, i, noise,
                 std::span<std::uint8_t>(content.samples)
                     .subspan(static_cast<std::size_t>(i) * elements, elements));
    content.labels.push_back(static_cast<std::uint8_t>(label));
  }
  return std::make_shared<ByteDataset>(std::move(content));
}

}  // namespace superstep::worker
