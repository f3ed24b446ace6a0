#include "worker/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "worker/data/byte_dataset.h"
#include "worker/data/idx.h"

namespace superstep::worker {

namespace {

constexpr double kUnitScale = 255.0;

class Subset final : public Dataset {
 public:
  Subset(std::shared_ptr<const Dataset> dataset, std::int64_t begin, std::int64_t end)
      : dataset_(std::move(dataset)), begin_(begin), end_(end) {}

  std::int64_t size() const override { return end_ - begin_; }
  kernels::Shape sample_shape() const override { return dataset_->sample_shape(); }
  int num_classes() const override { return dataset_->num_classes(); }
  std::string fingerprint() const override {
    return fmt::format("samples {} to {} of {}", begin_, end_ - 1, dataset_->fingerprint());
  }

  // Translates indices in blocks on the stack, so that reading allocates nothing.
  void read(std::span<const std::int64_t> indices, const Normalization& normalization,
            std::span<float> out, std::span<std::int64_t> labels) const override {
    const auto elements = static_cast<std::size_t>(sample_shape().num_elements());
    std::array<std::int64_t, 64> block{};
    for (std::size_t first = 0; first < indices.size(); first += block.size()) {
      const std::size_t count = std::min(block.size(), indices.size() - first);
      for (std::size_t i = 0; i < count; ++i) {
        block[i] = translate(indices[first + i]);
      }
      dataset_->read(std::span<const std::int64_t>(block).first(count), normalization,
                     out.subspan(first * elements, count * elements), labels.subspan(first, count));
    }
  }

  std::optional<ByteHistogram> byte_histogram(std::int64_t begin, std::int64_t end) const override {
    return dataset_->byte_histogram(begin_ + begin, begin_ + end);
  }

  std::vector<std::span<const std::byte>> sample_memory() const override {
    return dataset_->sample_memory();
  }

  std::vector<std::int64_t> labels() const override {
    const std::vector<std::int64_t> all = dataset_->labels();
    return {all.begin() + begin_, all.begin() + end_};
  }

 private:
  std::int64_t translate(std::int64_t index) const {
    if (index < 0 || index >= size()) {
      throw InvalidArgument(
          "Dataset::read",
          fmt::format("sample index out of range: got {}, expected 0 to {}", index, size() - 1));
    }
    return begin_ + index;
  }

  std::shared_ptr<const Dataset> dataset_;
  std::int64_t begin_;
  std::int64_t end_;
};

struct Moments {
  double mean = 0.0;
  double variance = 0.0;  // n in the denominator
};

// The sums are integers and exact; the bins are visited in order.
Moments moments_of(const ByteHistogram& histogram) {
  std::int64_t count = 0;
  std::int64_t sum = 0;
  for (std::size_t value = 0; value < histogram.size(); ++value) {
    count += histogram[value];
    sum += histogram[value] * static_cast<std::int64_t>(value);
  }
  Moments moments{.mean = static_cast<double>(sum) / static_cast<double>(count)};
  double squares = 0.0;
  for (std::size_t value = 0; value < histogram.size(); ++value) {
    const double distance = static_cast<double>(value) - moments.mean;
    squares += static_cast<double>(histogram[value]) * distance * distance;
  }
  moments.variance = squares / static_cast<double>(count);
  return {.mean = moments.mean / kUnitScale,
          .variance = moments.variance / kUnitScale / kUnitScale};
}

// Calls visit(value) for every value of the dataset in index order, unit scale.
template <typename Visitor>
void for_each_value(const Dataset& dataset, Visitor visit) {
  std::vector<float> sample(static_cast<std::size_t>(dataset.sample_shape().num_elements()));
  std::int64_t label = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    dataset.read({&i, 1}, Normalization::unit(), sample, {&label, 1});
    for (const float value : sample) {
      visit(static_cast<double>(value));
    }
  }
}

Moments moments_in_index_order(const Dataset& dataset) {
  const auto count = static_cast<double>(dataset.size()) *
                     static_cast<double>(dataset.sample_shape().num_elements());
  double sum = 0.0;
  for_each_value(dataset, [&](double value) { sum += value; });
  const double mean = sum / count;
  double squares = 0.0;
  for_each_value(dataset, [&](double value) { squares += (value - mean) * (value - mean); });
  return {.mean = mean, .variance = squares / count};
}

kernels::Shape image_shape(const IdxArray& images) {
  std::vector<std::int64_t> sizes(images.sizes.begin() + 1, images.sizes.end());
  if (sizes.size() == 2) {
    sizes.insert(sizes.begin(), 1);  // (H, W): one channel
  }
  return kernels::Shape(std::move(sizes));
}

std::shared_ptr<const Dataset> read_part(const std::string& directory, const std::string& part,
                                         int num_classes, Storage storage) {
  if (num_classes < 1 || num_classes > 256) {
    throw InvalidArgument("idx_directory",
                          fmt::format("num_classes: got {}, expected 1 to 256", num_classes));
  }
  IdxArray images =
      read_idx(find_idx_file(directory, part + "-images-idx3-ubyte"), IdxContent::kImages, storage);
  IdxArray labels =
      read_idx(find_idx_file(directory, part + "-labels-idx1-ubyte"), IdxContent::kLabels, storage);
  check_counts_match(images, labels);
  check_labels(labels, num_classes);
  return std::make_shared<ByteDataset>(SharedByteSamples{.source = "idx " + part,
                                                         .sample_shape = image_shape(images),
                                                         .num_classes = num_classes,
                                                         .samples = std::move(images.values),
                                                         .labels = std::move(labels.values)});
}

}  // namespace

std::vector<std::int64_t> Dataset::labels() const {
  std::vector<std::int64_t> all(static_cast<std::size_t>(size()));
  std::vector<float> sample(static_cast<std::size_t>(sample_shape().num_elements()));
  for (std::int64_t i = 0; i < size(); ++i) {
    read(std::span<const std::int64_t>(&i, 1), Normalization::none(), sample,
         std::span<std::int64_t>(all).subspan(static_cast<std::size_t>(i), 1));
  }
  return all;
}

std::optional<ByteHistogram> Dataset::byte_histogram(std::int64_t /*begin*/,
                                                     std::int64_t /*end*/) const {
  return std::nullopt;
}

std::shared_ptr<const Dataset> subset(std::shared_ptr<const Dataset> dataset, std::int64_t begin,
                                      std::int64_t end) {
  if (begin < 0 || begin >= end || end > dataset->size()) {
    throw InvalidArgument("subset",
                          fmt::format("range of samples: got [{}, {}), expected a non-empty range "
                                      "within [0, {})",
                                      begin, end, dataset->size()));
  }
  return std::make_shared<Subset>(std::move(dataset), begin, end);
}

Normalization mean_std_normalization(const Dataset& dataset) {
  const std::optional<ByteHistogram> histogram = dataset.byte_histogram(0, dataset.size());
  const Moments moments = histogram ? moments_of(*histogram) : moments_in_index_order(dataset);
  if (!(moments.variance > 0.0)) {
    throw InvalidArgument("mean_std_normalization",
                          fmt::format("standard deviation of the data: got {}, expected more than "
                                      "0; use unit normalisation for constant data",
                                      std::sqrt(moments.variance)));
  }
  return {.kind = Normalization::Kind::kMeanStd,
          .mean = static_cast<float>(moments.mean),
          .standard_deviation = static_cast<float>(std::sqrt(moments.variance))};
}

std::shared_ptr<const Dataset> idx_test_part(const std::string& directory, int num_classes,
                                             Storage storage) {
  return read_part(directory, "t10k", num_classes, storage);
}

std::shared_ptr<const Dataset> idx_train_part(const std::string& directory, int num_classes,
                                              Storage storage) {
  return read_part(directory, "train", num_classes, storage);
}

LabelledData idx_directory(const std::string& directory, int num_classes, Storage storage) {
  LabelledData data{.train = idx_train_part(directory, num_classes, storage),
                    .test = idx_test_part(directory, num_classes, storage)};
  if (data.train->sample_shape() != data.test->sample_shape()) {
    throw DataError(
        "idx_directory", directory, -1,
        fmt::format("shapes differ: got test images of {}, expected {} as in training",
                    data.test->sample_shape().to_string(), data.train->sample_shape().to_string()));
  }
  return data;
}

}  // namespace superstep::worker
