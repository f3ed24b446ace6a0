#include "worker/data/idx.h"

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/error_text.h"
#include "tests/worker/data/idx_files.h"

namespace superstep::worker {
namespace {

using superstep::testing::counting_bytes;
using superstep::testing::error_text;
using superstep::testing::gzip;
using superstep::testing::idx_header;
using superstep::testing::idx_images;
using superstep::testing::idx_labels;
using superstep::testing::little_endian_bytes;
using superstep::testing::TemporaryDirectory;
using superstep::testing::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Idx : public ::testing::Test {
 protected:
  std::string error_of(const std::string& bytes, IdxContent content,
                       const std::string& name = "f") const {
    const auto path = write_bytes(directory_ / name, bytes);
    std::string message = error_text<DataError>([&] { read_idx(path, content); });
    const std::string prefix = "[read_idx] " + path.string();
    return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
  }
  std::string error_of_images(const std::string& bytes, const std::string& name = "f") const {
    return error_of(bytes, IdxContent::kImages, name);
  }
  std::string error_of_labels(const std::string& bytes) const {
    return error_of(bytes, IdxContent::kLabels);
  }

  TemporaryDirectory directory_;
};

TEST_F(Idx, ReadsImagesAndLabelsPlainAndGzip) {
  for (const bool packed : {false, true}) {
    const auto encode = [&](const std::string& bytes) { return packed ? gzip(bytes) : bytes; };
    const std::string suffix = packed ? ".gz" : "";
    const IdxArray images = read_idx(
        write_bytes(directory_ / ("i" + suffix), encode(idx_images(5, 3, 4))), IdxContent::kImages);
    EXPECT_THAT(images.sizes, ElementsAre(5, 3, 4));
    ASSERT_EQ(images.values.size(), 60U);
    EXPECT_EQ(images.values[59], 59);
    EXPECT_EQ(images.byte_offset(59), 16 + 59);
    const IdxArray labels = read_idx(
        write_bytes(directory_ / ("l" + suffix), encode(idx_labels(12))), IdxContent::kLabels);
    EXPECT_THAT(labels.sizes, ElementsAre(12));
    EXPECT_EQ(labels.values[11], 1);
    EXPECT_EQ(labels.num_items(), 12);
  }
}

TEST_F(Idx, ReadsContentLargerThanOneAllocationStep) {
  const std::string bytes = idx_images(5'000, 28, 28);
  for (const auto& path :
       {write_bytes(directory_ / "i", bytes), write_bytes(directory_ / "i.gz", gzip(bytes))}) {
    const IdxArray images = read_idx(path, IdxContent::kImages);
    ASSERT_EQ(images.values.size(), 5'000U * 784U);
    for (std::size_t i = 0; i < images.values.size(); i += 997) {
      ASSERT_EQ(images.values[i], i % 251);
    }
  }
}

TEST_F(Idx, ReadsFlatAndColourImages) {
  EXPECT_THAT(
      read_idx(write_bytes(directory_ / "a", idx_header({2, 3}) + "abcdef"), IdxContent::kImages)
          .sizes,
      ElementsAre(2, 3));
  EXPECT_THAT(read_idx(write_bytes(directory_ / "b", idx_header({1, 3, 1, 2}) + "abcdef"),
                       IdxContent::kImages)
                  .sizes,
              ElementsAre(1, 3, 1, 2));
}

TEST_F(Idx, NamesGzipDataUnderAPlainName) {
  EXPECT_EQ(error_of_images(gzip(idx_images(1, 2, 2))),
            ", byte 0: got gzip-compressed data (0x1f8b), expected plain IDX for a name without "
            "\".gz\"; rename the file or unpack it");
}

TEST_F(Idx, NamesPlainDataUnderAGzipName) {
  EXPECT_EQ(error_of_images(idx_images(1, 2, 2), "f.gz"),
            ", byte 0: not gzip in spite of its name: got 0x0000, expected 0x1f8b");
}

TEST_F(Idx, NamesAnHtmlPage) {
  for (const std::string name : {"f", "f.gz"}) {
    EXPECT_THAT(error_of_images("<!DOCTYPE html><html>404</html>", name),
                HasSubstr(", byte 0: got an HTML or XML page"));
  }
  EXPECT_THAT(error_of_images("\r\n\n<html>"), HasSubstr("got an HTML or XML page"));
}

TEST_F(Idx, NamesAWrongMagic) {
  EXPECT_EQ(error_of_images("PK\x03\x04 a zip file"),
            ", byte 0: bad magic: got 0x504b0304, expected 0x00000803 for images");
  EXPECT_EQ(error_of_labels("\x7f"
                            "ELF...."),
            ", byte 0: bad magic: got 0x7f454c46, expected 0x00000801 for labels");
}

TEST_F(Idx, NamesALittleEndianMagic) {
  std::string bytes = little_endian_bytes(0x00000803) + little_endian_bytes(1);
  EXPECT_EQ(error_of_images(bytes),
            ", byte 0: bad magic: got 0x03080000, expected 0x00000803 for images; the header is "
            "little-endian, expected big-endian");
}

TEST_F(Idx, RefusesOtherElementTypesByName) {
  const std::vector<std::pair<int, std::string>> types = {
      {0x09, "int8"}, {0x0B, "int16"}, {0x0C, "int32"}, {0x0D, "float32"}, {0x0E, "float64"}};
  for (const auto& [code, name] : types) {
    EXPECT_THAT(error_of_images(idx_header({1, 1, 1}, code) + std::string(8, 'x')),
                HasSubstr(", byte 2: element type " + name + " (0x0"));
  }
  EXPECT_THAT(error_of_images(idx_header({1, 1, 1}, 0x0A) + "x"),
              HasSubstr(", byte 2: unknown element type: got 0x0a, expected 0x08 (uint8)"));
}

TEST_F(Idx, NamesANumberOfDimensionsOutOfRange) {
  EXPECT_EQ(error_of_images(idx_header({})),
            ", byte 3: number of dimensions out of range: got 0, expected 1 to 8");
  EXPECT_EQ(error_of_labels(idx_header(std::vector<std::uint32_t>(9, 1)) + "x"),
            ", byte 3: number of dimensions out of range: got 9, expected 1 to 8");
}

TEST_F(Idx, NamesImagesGivenAsLabelsAndTheReverse) {
  EXPECT_EQ(error_of_labels(idx_images(2, 2, 2)),
            ", byte 3: not a label file: got 3 dimensions, expected 1 (is this the image file?)");
  EXPECT_EQ(error_of_images(idx_labels(2)),
            ", byte 3: not an image file: got 1 dimension, expected 2 to 4 (is this the label "
            "file?)");
  EXPECT_EQ(error_of_images(idx_header({1, 1, 1, 1, 1}) + "x"),
            ", byte 3: not an image file: got 5 dimensions, expected 2 to 4");
}

TEST_F(Idx, NamesAHeaderCutAtEveryByte) {
  const std::string bytes = idx_images(1, 2, 2);
  for (std::size_t length = 0; length < 16; ++length) {
    const std::string error = error_of_images(bytes.substr(0, length));
    EXPECT_THAT(error, HasSubstr(", byte " + std::to_string(length) + ": file ends inside the " +
                                 (length < 4 ? "magic number" : "header")));
  }
  EXPECT_THAT(error_of_images(bytes.substr(0, 10)),
              HasSubstr("got 2 of 4 bytes of the size of dimension 2 of 3"));
}

TEST_F(Idx, RefusesSizesOfZero) {
  EXPECT_EQ(error_of_images(idx_header({0, 28, 28})), ", byte 4: got 0 items, expected at least 1");
  EXPECT_EQ(error_of_images(idx_header({5, 0, 28})),
            ", byte 8: size of dimension 2 of 3: got 0, expected at least 1");
}

TEST_F(Idx, NamesLittleEndianSizes) {
  std::string bytes{'\0', '\0', '\x08', '\x03'};
  bytes += little_endian_bytes(2) + little_endian_bytes(3) + little_endian_bytes(3);
  bytes += counting_bytes(18, 251);
  const std::string hint = "; the sizes are stored little-endian (2 x 3 x 3), expected big-endian";
  EXPECT_THAT(error_of_images(bytes), HasSubstr(hint));
  EXPECT_THAT(error_of_images(gzip(bytes), "f.gz"), HasSubstr(hint));
  // Not so where it would explain nothing.
  EXPECT_THAT(error_of_images(bytes + "x"), Not(HasSubstr(hint)));
}

TEST_F(Idx, NamesSizesThatOverflow) {
  const std::uint32_t most = std::numeric_limits<std::uint32_t>::max();
  EXPECT_EQ(error_of_images(idx_header({most, most, most}) + "x"),
            ", byte 4: sizes overflow: 4294967295 x 4294967295 x 4294967295 is more than "
            "9223372036854775807 bytes");
}

TEST_F(Idx, HugeSizesInASmallFileAllocateNothing) {
  // 2^62 bytes: would fail loudly if anything tried to reserve them.
  const std::string header = idx_header({1U << 31, 1U << 31});
  EXPECT_THAT(error_of_images(header + "abc"),
              HasSubstr(", byte 15: truncated: got 3 bytes of values, expected "
                        "4611686018427387904 (2147483648 x 2147483648)"));
  EXPECT_THAT(error_of_images(gzip(header + "abc"), "f.gz"), HasSubstr("cannot hold them"));
}

TEST_F(Idx, NamesTruncatedValues) {
  EXPECT_EQ(error_of_images(idx_images(3, 2, 2).substr(0, 27)),
            ", byte 27: truncated: got 11 bytes of values, expected 12 (3 x 2 x 2)");
  EXPECT_EQ(error_of_images(gzip(idx_images(3, 2, 2).substr(0, 27)), "f.gz"),
            ", byte 27: truncated: got 11 bytes of values, expected 12 (3 x 2 x 2) (offset in the "
            "uncompressed content)");
}

TEST_F(Idx, NamesTrailingBytes) {
  EXPECT_EQ(error_of_labels(idx_labels(3) + "ab"),
            ", byte 11: 2 trailing bytes: got 5 bytes of values, expected 3 (3)");
  EXPECT_EQ(error_of_images(gzip(idx_images(1, 2, 2) + "a"), "f.gz"),
            ", byte 20: trailing bytes: expected the end of the content after 4 bytes of values "
            "(1 x 2 x 2) (offset in the uncompressed content)");
}

TEST_F(Idx, PassesOnDamageOfTheGzipStream) {
  const std::string packed = gzip(idx_images(40, 5, 5));
  EXPECT_THAT(error_of_images(packed.substr(0, packed.size() - 9), "f.gz"),
              HasSubstr("gzip stream ends early"));
  EXPECT_THAT(error_of_images(packed.substr(0, packed.size() - 1), "f.gz"),
              HasSubstr("gzip stream ends early"));
  std::string wrong_checksum = packed;
  wrong_checksum[packed.size() - 8] = static_cast<char>(wrong_checksum[packed.size() - 8] ^ 1);
  EXPECT_THAT(error_of_images(wrong_checksum, "f.gz"), HasSubstr("incorrect data check"));
  EXPECT_THAT(error_of_images(packed + "x", "f.gz"), HasSubstr("garbage after the gzip stream"));
}

TEST_F(Idx, NamesMissingFilesAndDirectories) {
  EXPECT_THAT(error_text<DataError>([&] { read_idx(directory_ / "none", IdxContent::kImages); }),
              HasSubstr("none: cannot open: No such file or directory"));
  EXPECT_THAT(error_text<DataError>([&] { read_idx(directory_.path(), IdxContent::kImages); }),
              HasSubstr("got a directory, expected a file"));
}

TEST_F(Idx, NamesCountsThatDiffer) {
  const IdxArray images =
      read_idx(write_bytes(directory_ / "i", idx_images(3, 2, 2)), IdxContent::kImages);
  const IdxArray labels =
      read_idx(write_bytes(directory_ / "l", idx_labels(4)), IdxContent::kLabels);
  EXPECT_EQ(error_text<DataError>([&] { check_counts_match(images, labels); }),
            "[check_counts_match] " + (directory_ / "l").string() +
                ", byte 4: counts differ: got 4 labels, expected 3, one per image of " +
                (directory_ / "i").string());
}

TEST_F(Idx, NamesTheFirstLabelOutOfRange) {
  const IdxArray labels = read_idx(
      write_bytes(directory_ / "l", idx_header({4}) + "\x01\x02\x0b\x0c"), IdxContent::kLabels);
  EXPECT_EQ(error_text<DataError>([&] { check_labels(labels, 10); }),
            "[check_labels] " + (directory_ / "l").string() +
                ", byte 10: label of sample 2 out of range: got 11, expected 0 to 9");
  EXPECT_EQ(error_text<DataError>([&] { check_labels(labels, 13); }), "");
}

TEST_F(Idx, FindsPlainBeforeGzip) {
  write_bytes(directory_ / "both", "");
  write_bytes(directory_ / "both.gz", "");
  write_bytes(directory_ / "packed.gz", "");
  EXPECT_EQ(find_idx_file(directory_.path(), "both"), directory_ / "both");
  EXPECT_EQ(find_idx_file(directory_.path(), "packed"), directory_ / "packed.gz");
  EXPECT_THAT(error_text<DataError>([&] { find_idx_file(directory_.path(), "none"); }),
              HasSubstr("none: no such file, neither plain nor with .gz"));
  EXPECT_THAT(error_text<DataError>([&] { find_idx_file(directory_ / "nowhere", "none"); }),
              HasSubstr("nowhere: no such directory"));
  EXPECT_THAT(error_text<DataError>([&] { find_idx_file(directory_ / "both", "none"); }),
              HasSubstr("got a file, expected a directory"));
}

}  // namespace
}  // namespace superstep::worker
