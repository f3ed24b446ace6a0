#include "worker/data/text.h"

#include <cstdlib>
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

using superstep::testing::error_text;
using superstep::testing::gzip;
using superstep::testing::TemporaryDirectory;
using superstep::testing::write_bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Codes: newline 1, a 2, b 3, c 4, d 5. The silent one has a single line, with bytes of its own.
const char* const kTwoRoles = R"({"client": "X::ANN", "play": "X", "text": "ab\nba\nc"})"
                              "\n"
                              R"({"client": "X::SILENT", "text": "zzz"})"
                              "\n\n"
                              R"({"client": "X::BEN", "text": "d\nd\n"})"
                              "\n";

class Text : public ::testing::Test {
 protected:
  LabelledData read(const std::string& content, int num_classes = 6,
                    std::int64_t window = 3) const {
    write_bytes(directory_ / "roles.jsonl", content);
    return text_directory(directory_.path(), {.window = window, .num_classes = num_classes});
  }

  std::string error_of(const std::string& content, int num_classes = 6,
                       std::int64_t window = 3) const {
    return error_text<Error>([&] { read(content, num_classes, window); });
  }

  TemporaryDirectory directory_;
};

std::vector<float> window_of(const Dataset& data, std::int64_t index) {
  std::vector<float> out(static_cast<std::size_t>(data.sample_shape().num_elements()));
  std::vector<std::int64_t> label(1);
  data.read(std::vector<std::int64_t>{index}, Normalization::none(), out, label);
  return out;
}

TEST_F(Text, WindowsEndBeforeTheirCharacterAndNeverReachAnotherText) {
  const LabelledData data = read(kTwoRoles);
  EXPECT_EQ(data.train->size(), 8);
  EXPECT_EQ(data.test->size(), 3);
  EXPECT_EQ(data.train->sample_shape(), (kernels::Shape{3}));
  EXPECT_EQ(data.train->num_classes(), 6);
  EXPECT_THAT(data.train->labels(), ElementsAre(2, 3, 1, 3, 2, 1, 5, 1));
  EXPECT_THAT(data.test->labels(), ElementsAre(4, 5, 1));
  EXPECT_THAT(window_of(*data.train, 0), ElementsAre(0, 0, 0));
  EXPECT_THAT(window_of(*data.train, 2), ElementsAre(0, 2, 3));
  EXPECT_THAT(window_of(*data.train, 5), ElementsAre(1, 3, 2));
  EXPECT_THAT(window_of(*data.train, 6), ElementsAre(0, 0, 0));
  EXPECT_THAT(window_of(*data.train, 7), ElementsAre(0, 0, 5));
  EXPECT_THAT(window_of(*data.test, 0), ElementsAre(0, 0, 0));
  EXPECT_THAT(window_of(*data.test, 2), ElementsAre(0, 0, 5));
  EXPECT_THROW(window_of(*data.test, 3), InvalidArgument);
  EXPECT_THROW(window_of(*data.test, -1), InvalidArgument);
}

TEST_F(Text, ReadsSeveralSamplesAtOnce) {
  const LabelledData data = read(kTwoRoles);
  std::vector<float> out(9);
  std::vector<std::int64_t> labels(3);
  data.train->read(std::vector<std::int64_t>{7, 0, 2}, Normalization::none(), out, labels);
  EXPECT_THAT(out, ElementsAre(0, 0, 5, 0, 0, 0, 0, 2, 3));
  EXPECT_THAT(labels, ElementsAre(1, 2, 1));
}

TEST_F(Text, KnowsWhoseSamplesAreWhoseInBothParts) {
  const LabelledData data = read(kTwoRoles);
  ASSERT_NE(data.train->groups(), nullptr);
  EXPECT_THAT(data.train->groups()->cuts, ElementsAre(0, 6, 8));
  EXPECT_THAT(data.test->groups()->cuts, ElementsAre(0, 1, 3));
  EXPECT_THAT(data.train->groups()->names, ElementsAre("X::ANN", "X::BEN"));
  EXPECT_EQ(data.test->groups()->names, data.train->groups()->names);
}

// A fifth of the lines, rounded up to at least one, from the end.
TEST(TextParts, TheLastFifthOfTheLinesIsForTests) {
  EXPECT_EQ(begin_of_test_part(""), 0U);
  EXPECT_EQ(begin_of_test_part("one line"), 8U);
  EXPECT_EQ(begin_of_test_part("one line\n"), 9U);
  EXPECT_EQ(begin_of_test_part("a\nb"), 2U);
  EXPECT_EQ(begin_of_test_part("\n\n"), 1U);
  EXPECT_EQ(begin_of_test_part("a\nb\nc\nd\ne"), 8U);
  EXPECT_EQ(begin_of_test_part("a\nb\nc\nd\ne\nf"), 8U);
  EXPECT_EQ(begin_of_test_part("a\nb\nc\nd\ne\nf\n"), 8U);
}

TEST_F(Text, PlainWinsOverGzipAndBothHoldTheSame) {
  const std::string plain = read(kTwoRoles).train->fingerprint();
  std::filesystem::remove(directory_ / "roles.jsonl");
  write_bytes(directory_ / "roles.jsonl.gz", gzip(kTwoRoles));
  const TextOptions options{.window = 3, .num_classes = 6};
  EXPECT_EQ(text_directory(directory_.path(), options).train->fingerprint(), plain);
  write_bytes(directory_ / "roles.jsonl", "nothing");
  EXPECT_THROW(text_directory(directory_.path(), options), DataError);
}

TEST_F(Text, TheFingerprintDependsOnContentWindowPartAndClients) {
  const LabelledData data = read(kTwoRoles);
  std::string renamed = kTwoRoles;
  renamed.replace(renamed.find("ANN"), 3, "EVE");
  std::string other = kTwoRoles;
  other.replace(other.find("ab"), 2, "aa");
  EXPECT_NE(data.train->fingerprint(), data.test->fingerprint());
  EXPECT_NE(read(renamed).train->fingerprint(), data.train->fingerprint());
  EXPECT_NE(read(other).train->fingerprint(), data.train->fingerprint());
  EXPECT_NE(read(kTwoRoles, 6, 4).train->fingerprint(), data.train->fingerprint());
}

TEST_F(Text, RefusesAnotherNumberOfClassesAndSaysWhichItIs) {
  EXPECT_THAT(error_of(kTwoRoles, 10), HasSubstr("num_classes: got 10, expected 6: 5 different"));
  EXPECT_THAT(error_of(kTwoRoles, 6, 0), HasSubstr("window: got 0"));
}

TEST_F(Text, NamesTheLineThatIsWrong) {
  const std::string good = R"({"client": "A", "text": "a\nb"})"
                           "\n";
  EXPECT_THAT(error_of(good + "{\"client\": \"B\""), HasSubstr("line 2: no JSON object"));
  EXPECT_THAT(error_of(good + "\n[1, 2]"), HasSubstr("line 3: no JSON object"));
  EXPECT_THAT(error_of(good + "{\"client\": \"B\"}"),
              HasSubstr("line 2: \"text\": got nothing, expected a text"));
  EXPECT_THAT(error_of(good + "{\"client\": 7, \"text\": \"\"}"),
              HasSubstr("line 2: \"client\": got number, expected a text"));
  EXPECT_THAT(error_of(good + "{\"client\": \"\", \"text\": \"\"}"),
              HasSubstr("line 2: \"client\" is empty"));
  EXPECT_THAT(error_of(good + good), HasSubstr("line 2: client \"A\" is there twice"));
  EXPECT_THAT(error_of("{\"client\": \"A\", \"text\": \"\xff\"}"), HasSubstr("line 1: no JSON"));
  EXPECT_THAT(error_of(std::string(100'000, '[')), HasSubstr("line 1: no JSON object"));
}

TEST_F(Text, RefusesFilesWithoutATextOfTwoLines) {
  EXPECT_THAT(error_of(""), HasSubstr("no text has two lines"));
  EXPECT_THAT(error_of(R"({"client": "A", "text": "one line"})"), HasSubstr("no text has two"));
  const TemporaryDirectory empty;
  try {
    text_directory(empty.path(), {});
    FAIL() << "an empty directory was read";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("expected the file roles.jsonl or roles.jsonl.gz"));
  }
}

TEST_F(Text, EveryTruncationOfAPackedFileIsRefused) {
  const std::string whole = gzip(kTwoRoles);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(directory_ / "roles.jsonl.gz", whole.substr(0, size));
    EXPECT_THROW(text_directory(directory_.path(), {.window = 3, .num_classes = 6}), DataError)
        << size;
  }
}

TEST(ShakespeareRoles, HaveTheirKnownCounts) {
  const char* directory = std::getenv("SUPERSTEP_TEST_DATA");
  if (directory == nullptr) {
    GTEST_SKIP() << "SUPERSTEP_TEST_DATA is not set";
  }
  const LabelledData data = text_directory(std::string(directory) + "/shakespeare-roles",
                                           {.window = 20, .num_classes = 71});
  EXPECT_EQ(data.train->groups()->names.size(), 1'367U);
  EXPECT_EQ(data.train->size(), 3'616'184);
  EXPECT_EQ(data.test->size(), 910'184);
}

}  // namespace
}  // namespace superstep::worker
