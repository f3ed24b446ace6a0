#include "worker/data/dataset.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/error_text.h"
#include "tests/worker/data/idx_files.h"
#include "worker/data/byte_dataset.h"

namespace superstep::worker {
namespace {

using superstep::testing::error_text;
using superstep::testing::gzip;
using superstep::testing::idx_images;
using superstep::testing::idx_labels;
using superstep::testing::TemporaryDirectory;
using superstep::testing::write_bytes;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kFashionMnist = "/usr/share/datasets/fashion-mnist";

ByteSamples four_samples() {
  return {.source = "four",
          .sample_shape = {1, 1, 2},
          .num_classes = 3,
          .samples = {0, 1, 2, 3, 250, 251, 252, 255},
          .labels = {0, 1, 2, 1}};
}

struct Samples {
  std::vector<float> values;
  std::vector<std::int64_t> labels;
};
Samples read_samples(const Dataset& dataset, const std::vector<std::int64_t>& indices,
                     const Normalization& normalization) {
  const auto elements = static_cast<std::size_t>(dataset.sample_shape().num_elements());
  Samples samples{.values = std::vector<float>(indices.size() * elements),
                  .labels = std::vector<std::int64_t>(indices.size())};
  dataset.read(indices, normalization, samples.values, samples.labels);
  return samples;
}

// A dataset without bytes: values i + 0.5 of one element each.
class HalvesDataset final : public Dataset {
 public:
  std::int64_t size() const override { return 5; }
  kernels::Shape sample_shape() const override { return {1}; }
  int num_classes() const override { return 2; }
  std::string fingerprint() const override { return "halves"; }
  void read(std::span<const std::int64_t> indices, const Normalization& normalization,
            std::span<float> out, std::span<std::int64_t> labels) const override {
    for (std::size_t i = 0; i < indices.size(); ++i) {
      out[i] = normalization.apply(static_cast<float>(indices[i]) + 0.5F);
      labels[i] = indices[i] % 2;
    }
  }
};

TEST(ByteDataset, ReadsSamplesInTheOrderAskedForWithTheBitsOfApply) {
  const ByteDataset dataset(four_samples());
  const Normalization normalization{.mean = 0.3F, .standard_deviation = 0.7F};
  const Samples samples = read_samples(dataset, {3, 0, 3}, normalization);
  EXPECT_THAT(samples.labels, ElementsAre(1, 0, 1));
  EXPECT_THAT(samples.values, ElementsAre(normalization.apply(252), normalization.apply(255),
                                          normalization.apply(0), normalization.apply(1),
                                          normalization.apply(252), normalization.apply(255)));
}

TEST(ByteDataset, EveryByteHasTheBitsOfApplyAtEveryPosition) {
  ByteSamples all{
      .source = "all", .sample_shape = {257}, .num_classes = 1, .samples = {}, .labels = {0}};
  for (int i = 0; i < 257; ++i) {
    all.samples.push_back(static_cast<std::uint8_t>(i));
  }
  const ByteDataset dataset(all);
  for (const Normalization& normalization :
       {Normalization::unit(), Normalization::none(),
        Normalization{.mean = 0.2860F, .standard_deviation = 0.3530F}}) {
    const Samples samples = read_samples(dataset, {0}, normalization);
    for (std::size_t i = 0; i < 257; ++i) {
      ASSERT_EQ(samples.values[i], normalization.apply(static_cast<float>(i % 256)));
    }
  }
}

TEST(ByteDataset, RefusesIndicesOutOfRange) {
  const ByteDataset dataset(four_samples());
  EXPECT_EQ(error_text<InvalidArgument>([&] { read_samples(dataset, {4}, {}); }),
            "[Dataset::read] sample index out of range: got 4, expected 0 to 3");
  EXPECT_THAT(error_text<InvalidArgument>([&] { read_samples(dataset, {-1}, {}); }),
              HasSubstr("got -1"));
}

TEST(ByteDataset, RefusesContentThatDoesNotFit) {
  ByteSamples content = four_samples();
  content.labels.push_back(0);
  EXPECT_THAT(error_text<InvalidArgument>([&] { ByteDataset{content}; }),
              HasSubstr("got 8 values and 5 labels, expected 2 values per label"));
  content = four_samples();
  content.num_classes = 2;
  EXPECT_THAT(error_text<InvalidArgument>([&] { ByteDataset{content}; }),
              HasSubstr("label of sample 2 out of range: got 2, expected 0 to 1"));
  content = four_samples();
  content.num_classes = 257;
  EXPECT_THAT(error_text<InvalidArgument>([&] { ByteDataset{content}; }),
              HasSubstr("num_classes out of range: got 257"));
}

TEST(ByteDataset, FingerprintTellsContentApart) {
  const std::string fingerprint = ByteDataset(four_samples()).fingerprint();
  EXPECT_THAT(fingerprint, ::testing::StartsWith("four: 4 samples of (1, 1, 2), 3 classes, xxh3:"));
  EXPECT_EQ(ByteDataset(four_samples()).fingerprint(), fingerprint);
  ByteSamples other = four_samples();
  other.samples[7] ^= 1;
  EXPECT_NE(ByteDataset(other).fingerprint(), fingerprint);
  other = four_samples();
  other.labels[3] = 2;
  EXPECT_NE(ByteDataset(other).fingerprint(), fingerprint);
}

TEST(Subset, IsAWindowOfTheDataset) {
  const auto whole = std::make_shared<ByteDataset>(four_samples());
  const auto part = subset(whole, 1, 3);
  EXPECT_EQ(part->size(), 2);
  EXPECT_EQ(part->num_classes(), 3);
  const Samples samples = read_samples(*part, {1, 0}, Normalization::none());
  EXPECT_THAT(samples.values, ElementsAre(250, 251, 2, 3));
  EXPECT_THAT(samples.labels, ElementsAre(2, 1));
  EXPECT_EQ(error_text<InvalidArgument>([&] { read_samples(*part, {2}, {}); }),
            "[Dataset::read] sample index out of range: got 2, expected 0 to 1");
  EXPECT_EQ(part->fingerprint(), "samples 1 to 2 of " + whole->fingerprint());
}

TEST(Subset, ReadsMoreSamplesThanItsBlock) {
  const auto whole = synthetic_dataset({.num_samples = 300, .sample_shape = {3}, .num_classes = 7});
  const auto part = subset(subset(whole, 10, 300), 5, 290);
  std::vector<std::int64_t> indices(285);
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  std::vector<std::int64_t> shifted(285);
  std::iota(shifted.begin(), shifted.end(), std::int64_t{15});
  const Samples got = read_samples(*part, indices, {});
  const Samples expected = read_samples(*whole, shifted, {});
  EXPECT_EQ(got.values, expected.values);
  EXPECT_EQ(got.labels, expected.labels);
}

TEST(Subset, RefusesRangesOutsideTheDataset) {
  const auto whole = std::make_shared<ByteDataset>(four_samples());
  for (const auto& [begin, end] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{-1, 2}, {2, 2}, {3, 2}, {0, 5}}) {
    EXPECT_THAT(
        error_text<InvalidArgument>([&, first = begin, last = end] { subset(whole, first, last); }),
        HasSubstr("expected a non-empty range within [0, 4)"));
  }
}

TEST(MeanStdNormalization, MatchesClosedForm) {
  // 0 and 255, three to one: mean 1/4, variance 3/16 in unit scale.
  const ByteDataset dataset({.source = "",
                             .sample_shape = {2},
                             .num_classes = 1,
                             .samples = {0, 255, 0, 0},
                             .labels = {0, 0}});
  const Normalization normalization = mean_std_normalization(dataset);
  EXPECT_EQ(normalization.kind, Normalization::Kind::kMeanStd);
  EXPECT_EQ(normalization.scale, 1.0F / 255.0F);
  EXPECT_FLOAT_EQ(normalization.mean, 0.25F);
  EXPECT_FLOAT_EQ(normalization.standard_deviation, std::sqrt(3.0F / 16.0F));
}

TEST(MeanStdNormalization, NormalisedDataHaveMeanZeroAndDeviationOne) {
  const auto dataset = synthetic_dataset({.num_samples = 50, .sample_shape = {2, 5, 5}});
  std::vector<std::int64_t> indices(50);
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  const Samples samples = read_samples(*dataset, indices, mean_std_normalization(*dataset));
  double sum = 0.0;
  double squares = 0.0;
  for (const float value : samples.values) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const auto count = static_cast<double>(samples.values.size());
  EXPECT_NEAR(sum / count, 0.0, 1e-6);
  EXPECT_NEAR(squares / count, 1.0, 1e-6);
}

TEST(MeanStdNormalization, OfASubsetCountsOnlyItsSamples) {
  const auto whole = std::make_shared<ByteDataset>(four_samples());
  EXPECT_FLOAT_EQ(mean_std_normalization(*subset(whole, 1, 2)).mean, 2.5F / 255.0F);
}

TEST(MeanStdNormalization, WorksWithoutAHistogram) {
  const Normalization normalization = mean_std_normalization(HalvesDataset());
  EXPECT_FLOAT_EQ(normalization.mean, 2.5F / 255.0F);
  EXPECT_FLOAT_EQ(normalization.standard_deviation, std::sqrt(2.0F) / 255.0F);
}

TEST(MeanStdNormalization, RefusesConstantData) {
  const ByteDataset dataset(
      {.source = "", .sample_shape = {2}, .num_classes = 1, .samples = {9, 9}, .labels = {0}});
  EXPECT_THAT(error_text<InvalidArgument>([&] { mean_std_normalization(dataset); }),
              HasSubstr("standard deviation of the data: got 0, expected more than 0"));
}

TEST(SyntheticDataset, IsAFunctionOfSeedAndIndex) {
  SyntheticOptions options{.num_samples = 20, .sample_shape = {3, 8, 8}, .seed = 5};
  const auto dataset = synthetic_dataset(options);
  EXPECT_EQ(synthetic_dataset(options)->fingerprint(), dataset->fingerprint());
  options.num_samples = 40;
  const auto longer = synthetic_dataset(options);
  EXPECT_EQ(read_samples(*longer, {0, 7, 19}, {}).values,
            read_samples(*dataset, {0, 7, 19}, {}).values);
  options.seed = 6;
  EXPECT_NE(read_samples(*synthetic_dataset(options), {0}, {}).values,
            read_samples(*dataset, {0}, {}).values);
}

TEST(SyntheticDataset, HasBalancedLabelsAndTheBitsOfEveryMachine) {
  const auto dataset = synthetic_dataset({.num_samples = 25, .sample_shape = {1, 6, 5}});
  std::array<int, 10> counts{};
  for (std::int64_t i = 0; i < 25; ++i) {
    ++counts[static_cast<std::size_t>(read_samples(*dataset, {i}, {}).labels[0])];
  }
  EXPECT_THAT(counts, ElementsAre(3, 3, 3, 3, 3, 2, 2, 2, 2, 2));
  EXPECT_EQ(dataset->fingerprint(),
            "synthetic seed 1 patterns 1 noise 0.5: 25 samples of (1, 6, 5), 10 classes, "
            "xxh3:22c5307b28b84e1bdead6b64934962d6");
}

TEST(SyntheticDataset, HasAnOutlineThatMakesNoSamples) {
  const SyntheticOptions options{.num_samples = 1'000'000'000'000, .sample_shape = {3, 8, 8}};
  const auto outline = synthetic_outline(options);
  EXPECT_EQ(outline->size(), options.num_samples);
  EXPECT_EQ(outline->sample_shape(), options.sample_shape);
  EXPECT_EQ(outline->num_classes(), options.num_classes);
  EXPECT_THAT(outline->fingerprint(), HasSubstr("1000000000000 samples of (3, 8, 8), 10 classes"));
  EXPECT_ANY_THROW(read_samples(*outline, {0}, {}));
  EXPECT_THROW(synthetic_outline({.num_samples = 0}), InvalidArgument);
}

TEST(SyntheticDataset, ClassesDifferAndNoiseScatters) {
  const auto clean = synthetic_dataset(
      {.num_samples = 20, .sample_shape = {1, 8, 8}, .num_classes = 10, .noise = 0.0F});
  const Samples samples = read_samples(*clean, {0, 10, 1}, Normalization::none());
  const std::vector<float> first(samples.values.begin(), samples.values.begin() + 64);
  const std::vector<float> same(samples.values.begin() + 64, samples.values.begin() + 128);
  const std::vector<float> other(samples.values.begin() + 128, samples.values.end());
  EXPECT_EQ(first, same);
  EXPECT_NE(first, other);
  const auto noisy = synthetic_dataset({.num_samples = 20, .sample_shape = {1, 8, 8}});
  EXPECT_NE(read_samples(*noisy, {0}, {}).values, read_samples(*noisy, {10}, {}).values);
}

TEST(SyntheticDataset, SeedsDrawFromOneProblemAndPatternSeedsFromOthers) {
  const auto first_sample = [](std::uint64_t seed, float noise, std::uint64_t pattern_seed) {
    const auto dataset = synthetic_dataset({.num_samples = 1,
                                            .sample_shape = {1, 8, 8},
                                            .seed = seed,
                                            .noise = noise,
                                            .pattern_seed = pattern_seed});
    return read_samples(*dataset, {0}, Normalization::none()).values;
  };
  EXPECT_EQ(first_sample(1, 0.0F, 1), first_sample(2, 0.0F, 1));
  EXPECT_NE(first_sample(1, 0.5F, 1), first_sample(2, 0.5F, 1));
  EXPECT_NE(first_sample(1, 0.0F, 1), first_sample(1, 0.0F, 2));
}

TEST(SyntheticDataset, RefusesImpossibleOptions) {
  EXPECT_THAT(error_text<InvalidArgument>([] { synthetic_dataset({.num_samples = 0}); }),
              HasSubstr("num_samples: got 0"));
  EXPECT_THAT(error_text<InvalidArgument>([] { synthetic_dataset({.num_classes = 300}); }),
              HasSubstr("num_classes: got 300"));
  EXPECT_THAT(error_text<InvalidArgument>([] {
                synthetic_dataset({.sample_shape = {3, 0}});
              }),
              HasSubstr("sample_shape: got (3, 0)"));
  EXPECT_THAT(error_text<InvalidArgument>([] { synthetic_dataset({.noise = -1.0F}); }),
              HasSubstr("noise: got -1"));
}

class IdxDirectory : public ::testing::Test {
 protected:
  void write_parts(std::uint32_t train, std::uint32_t test) const {
    write_bytes(directory_ / "train-images-idx3-ubyte", idx_images(train, 4, 3));
    write_bytes(directory_ / "train-labels-idx1-ubyte.gz", gzip(idx_labels(train)));
    write_bytes(directory_ / "t10k-images-idx3-ubyte.gz", gzip(idx_images(test, 4, 3)));
    write_bytes(directory_ / "t10k-labels-idx1-ubyte", idx_labels(test));
  }
  TemporaryDirectory directory_;
};

TEST_F(IdxDirectory, ReadsPlainAndGzipMixed) {
  write_parts(7, 3);
  const LabelledData data = idx_directory(directory_.path().string());
  EXPECT_EQ(data.train->size(), 7);
  EXPECT_EQ(data.test->size(), 3);
  EXPECT_EQ(data.train->sample_shape(), (kernels::Shape{1, 4, 3}));
  EXPECT_EQ(data.train->num_classes(), 10);
  const Samples samples = read_samples(*data.train, {6}, Normalization::none());
  EXPECT_THAT(samples.labels, ElementsAre(6));
  EXPECT_EQ(samples.values.back(), 83.0F);
  EXPECT_THAT(data.test->fingerprint(), HasSubstr("idx t10k: 3 samples of (1, 4, 3)"));
}

TEST_F(IdxDirectory, FingerprintDoesNotDependOnThePlace) {
  write_parts(4, 2);
  const TemporaryDirectory other;
  std::filesystem::copy(directory_.path(), other.path(), std::filesystem::copy_options::recursive);
  EXPECT_EQ(idx_directory(other.path().string()).train->fingerprint(),
            idx_directory(directory_.path().string()).train->fingerprint());
}

TEST_F(IdxDirectory, NamesTheFileThatIsMissing) {
  write_parts(4, 2);
  std::filesystem::remove(directory_ / "t10k-labels-idx1-ubyte");
  EXPECT_THAT(error_text<DataError>([&] { idx_directory(directory_.path().string()); }),
              HasSubstr("t10k-labels-idx1-ubyte: no such file"));
}

TEST_F(IdxDirectory, GivesTheTestPartWithoutTheTrainingFiles) {
  write_parts(4, 2);
  const std::string expected = idx_directory(directory_.path().string()).test->fingerprint();
  std::filesystem::remove(directory_ / "train-images-idx3-ubyte");
  std::filesystem::remove(directory_ / "train-labels-idx1-ubyte.gz");
  EXPECT_EQ(idx_test_part(directory_.path().string())->fingerprint(), expected);
}

TEST_F(IdxDirectory, RefusesLabelsBeyondTheClasses) {
  write_parts(7, 3);
  EXPECT_THAT(error_text<DataError>([&] { idx_directory(directory_.path().string(), 5); }),
              HasSubstr("train-labels-idx1-ubyte.gz, byte 13: label of sample 5 out of range: got "
                        "5, expected 0 to 4"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { idx_directory(directory_.path().string(), 0); }),
              HasSubstr("num_classes: got 0"));
}

TEST_F(IdxDirectory, RefusesCountsThatDiffer) {
  write_parts(7, 3);
  write_bytes(directory_ / "t10k-labels-idx1-ubyte", idx_labels(4));
  EXPECT_THAT(error_text<DataError>([&] { idx_directory(directory_.path().string()); }),
              HasSubstr("counts differ: got 4 labels, expected 3"));
}

TEST_F(IdxDirectory, RefusesTestImagesOfAnotherShape) {
  write_parts(7, 3);
  write_bytes(directory_ / "t10k-images-idx3-ubyte.gz", gzip(idx_images(3, 3, 4)));
  EXPECT_THAT(error_text<DataError>([&] { idx_directory(directory_.path().string()); }),
              HasSubstr("got test images of (1, 3, 4), expected (1, 4, 3)"));
}

std::vector<std::int64_t> label_histogram(const Dataset& dataset) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(dataset.num_classes()));
  std::vector<float> sample(static_cast<std::size_t>(dataset.sample_shape().num_elements()));
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    std::int64_t label = 0;
    dataset.read({&i, 1}, Normalization::none(), sample, {&label, 1});
    ++counts[static_cast<std::size_t>(label)];
  }
  return counts;
}

TEST(FashionMnist, HasItsKnownCountsAndMoments) {
  const LabelledData data = idx_directory(kFashionMnist);
  EXPECT_EQ(data.train->size(), 60'000);
  EXPECT_EQ(data.test->size(), 10'000);
  EXPECT_EQ(data.train->sample_shape(), (kernels::Shape{1, 28, 28}));
  EXPECT_THAT(label_histogram(*data.train), Each(6'000));
  EXPECT_THAT(label_histogram(*data.test), Each(1'000));
  const Normalization normalization = mean_std_normalization(*data.train);
  EXPECT_NEAR(normalization.mean, 0.2860, 5e-5);
  EXPECT_NEAR(normalization.standard_deviation, 0.3530, 5e-5);
}

TEST(Mnist, HasItsKnownCountsAndMoments) {
  const char* directory = std::getenv("SUPERSTEP_TEST_DATA");
  if (directory == nullptr) {
    GTEST_SKIP() << "SUPERSTEP_TEST_DATA is not set";
  }
  const LabelledData data = idx_directory(std::string(directory) + "/mnist");
  EXPECT_THAT(label_histogram(*data.train),
              ElementsAre(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949));
  EXPECT_THAT(label_histogram(*data.test),
              ElementsAre(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009));
  const Normalization normalization = mean_std_normalization(*data.train);
  EXPECT_NEAR(normalization.mean, 0.1307, 5e-5);
  EXPECT_NEAR(normalization.standard_deviation, 0.3081, 5e-5);
  EXPECT_EQ(
      data.train->fingerprint(),
      "idx train: 60000 samples of (1, 28, 28), 10 classes, xxh3:d62a412bf71926c7ea184c6a70f11642");
}

}  // namespace
}  // namespace superstep::worker
