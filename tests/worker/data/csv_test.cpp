// Records, numbers and schemas of CSV files: good ones and every kind of damage.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/error_text.h"
#include "worker/data/csv_number.h"
#include "worker/data/csv_reader.h"
#include "worker/data/csv_schema.h"

namespace superstep::worker {
namespace {

using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;
using Records = std::vector<std::vector<std::string>>;

Records read_all(std::string_view bytes, char delimiter = ',') {
  CsvReader reader("x.csv", bytes, delimiter);
  Records records;
  while (reader.next()) {
    records.emplace_back(reader.fields().begin(), reader.fields().end());
  }
  return records;
}

std::string complaint(std::string_view bytes) {
  return error_text<DataError>([&] { read_all(bytes); });
}

TEST(CsvReader, ReadsWhatRfc4180Describes) {
  EXPECT_THAT(read_all("a,b\r\n1,2\r\n"),
              ElementsAre(ElementsAre("a", "b"), ElementsAre("1", "2")));
  EXPECT_THAT(read_all("a,b\n1,2"), ElementsAre(ElementsAre("a", "b"), ElementsAre("1", "2")));
  EXPECT_THAT(read_all("\"x,y\",\"a\"\"b\"\n"), ElementsAre(ElementsAre("x,y", "a\"b")));
  EXPECT_THAT(read_all("\"two\nlines\",\"\"\n,\n"),
              ElementsAre(ElementsAre("two\nlines", ""), ElementsAre("", "")));
  EXPECT_THAT(read_all(""), ElementsAre());
  EXPECT_THAT(read_all(","), ElementsAre(ElementsAre("", "")));
}

TEST(CsvReader, TakesLineEndsBlankLinesAndMarksAsTheyCome) {
  EXPECT_THAT(read_all("\xEF\xBB\xBF"
                       "a\r\nb\n\n \n\r\nc"),
              ElementsAre(ElementsAre("a"), ElementsAre("b"), ElementsAre("c")));
  EXPECT_THAT(read_all("39, State-gov ,  \" x \" , <=50K\n"),
              ElementsAre(ElementsAre("39", "State-gov", " x ", "<=50K")));
  EXPECT_THAT(read_all("a;b\tc\n", ';'), ElementsAre(ElementsAre("a", "b\tc")));
  EXPECT_THAT(read_all("a\t\tc\n", '\t'), ElementsAre(ElementsAre("a", "", "c")));
}

TEST(CsvReader, RefusesDamageWithItsPlace) {
  EXPECT_THAT(
      complaint("a,b\n1,\"x\n"),
      AllOf(HasSubstr("x.csv, byte 6"), HasSubstr("line 2, field 2"), HasSubstr("never closed")));
  EXPECT_THAT(complaint("a\n5\" pipe,3\n"), AllOf(HasSubstr("byte 3"), HasSubstr("line 2, field 1"),
                                                  HasSubstr("inside an unquoted")));
  EXPECT_THAT(complaint("\"a\"b,c\n"), HasSubstr("after the closing quote"));
  EXPECT_THAT(complaint("a\rb\n"), HasSubstr("carriage return without"));
  EXPECT_THAT(complaint("a\r\r\n"), HasSubstr("carriage return without"));
  EXPECT_THAT(complaint(std::string_view("a,\0b\n", 5)), HasSubstr("NUL byte"));
  EXPECT_THAT(complaint(std::string_view("\"a\0\"\n", 5)), HasSubstr("NUL byte"));
  EXPECT_THROW(CsvReader("x", "", '"'), InvalidArgument);
}

TEST(CsvReader, ReadsAFieldOfTenMebibytesAndAHundredThousandColumns) {
  const std::string wide(std::size_t{10} << 20, 'x');
  EXPECT_EQ(read_all(wide + ",y\n")[0][0].size(), wide.size());
  EXPECT_EQ(read_all(std::string(99'999, ',') + "\n")[0].size(), 100'000U);
}

float number(std::string_view text) {
  float value = -1.0F;
  EXPECT_EQ(parse_number(text, value), NumberParse::kNumber) << text;
  return value;
}

TEST(CsvNumber, IsTheNearestFloat) {
  EXPECT_EQ(number("0"), 0.0F);
  EXPECT_EQ(number("-122.23"), -122.23F);
  EXPECT_EQ(number("+3.5"), 3.5F);
  EXPECT_EQ(number(".5"), 0.5F);
  EXPECT_EQ(number("5."), 5.0F);
  EXPECT_EQ(number("0001"), 1.0F);
  EXPECT_EQ(number("1e3"), 1000.0F);
  EXPECT_EQ(number("1.5E-3"), 1.5e-3F);
  EXPECT_EQ(number("123456789012345678901234567890"), 123456789012345678901234567890.0F);
  EXPECT_EQ(number("0.1000000000000000055511151231257827"), 0.1F);
  EXPECT_FALSE(std::signbit(number("-0")));
  for (int i = 0; i < 100'000; i += 7) {
    const double value = i / 1000.0;
    ASSERT_EQ(number(fmt::format("{:.3f}", value)), static_cast<float>(value));
  }
}

TEST(CsvNumber, IsNothingElse) {
  float value = 0.0F;
  for (const char* text :
       {"",    "-",   "+",   ".",   "abc", "inf",   "-inf", "nan", "0x10", "1_000",
        "1,5", "+ 3", "1 2", "--1", "+-1", "1.2.3", "1e",   "e5",  "1e5x", "Infinity"}) {
    EXPECT_EQ(parse_number(text, value), NumberParse::kNotANumber) << text;
  }
  for (const char* text :
       {"1e999", "-1e999", "1e39", "99999999999999999999999999999999999999999"}) {
    EXPECT_EQ(parse_number(text, value), NumberParse::kOutOfRange) << text;
  }
}

class CsvSchemaTest : public ::testing::Test {
 protected:
  MappedFile file(std::string_view text) {
    const std::filesystem::path path = directory_ / "data.csv";
    write_file_atomically(path, text);
    return MappedFile(path);
  }
  CsvSchema schema(std::string_view text, const SchemaRequest& request = {}) {
    return infer_schema(file(text), {}, request);
  }
  std::string problem(std::string_view text, const SchemaRequest& request = {}) {
    return error_text<Error>([&] { schema(text, request); });
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(CsvSchemaTest, ReadsNamesAndKinds) {
  const CsvSchema found = schema("age,work,empty\n39,Private,\n?,\"Never, ever\",NA\n");
  ASSERT_EQ(found.columns.size(), 3U);
  EXPECT_TRUE(found.has_header);
  EXPECT_EQ(found.sampled_records, 2);
  EXPECT_EQ(found.data_begin, 15U);
  EXPECT_EQ(found.columns[0].kind, ColumnKind::kNumber);
  EXPECT_EQ(found.columns[1].kind, ColumnKind::kCategory);
  EXPECT_THAT(found.columns[1].reason, HasSubstr("line 2 holds \"Private\""));
  EXPECT_EQ(found.columns[2].kind, ColumnKind::kNumber);
  EXPECT_THAT(to_text(found), HasSubstr("work   category"));
}

TEST_F(CsvSchemaTest, TakesNamesFromElsewhere) {
  const SchemaRequest request{.columns = {"a", "b"}, .kinds = {{"b", ColumnKind::kCategory}}};
  const CsvSchema found = schema("|a comment\n1,2\n", request);
  EXPECT_FALSE(found.has_header);
  EXPECT_EQ(found.comment_lines, 1);
  EXPECT_EQ(found.data_begin, 11U);
  EXPECT_EQ(found.columns[1].kind, ColumnKind::kCategory);
  EXPECT_EQ(schema("a,b\n1,2\n", request).data_begin, 4U);  // a header that repeats the names
}

TEST_F(CsvSchemaTest, RefusesWhatHasNoSchema) {
  EXPECT_THAT(problem(""), HasSubstr("got no record"));
  EXPECT_THAT(problem("a,b\n"), HasSubstr("a header and no record"));
  EXPECT_THAT(problem("1,2\n3,4\n"), HasSubstr("--columns"));
  EXPECT_THAT(problem("a,a\n1,2\n"), HasSubstr("names \"a\" twice"));
  EXPECT_THAT(problem("a,\n1,2\n"), HasSubstr("field 2: column without a name"));
  EXPECT_THAT(problem("a,b\n1,2\n1,2,3\n"),
              AllOf(HasSubstr("line 3"), HasSubstr("got 3 fields, expected 2")));
  EXPECT_THAT(problem("a,b\n1\n"), HasSubstr("got 1 fields, expected 2"));
  EXPECT_THAT(problem("a;b\n1;2\n"), HasSubstr("is the delimiter ';'?"));
  EXPECT_THAT(problem("1\t2\n", {.columns = {"a", "b"}, .kinds = {}}),
              HasSubstr("is the delimiter a tab?"));
  EXPECT_THAT(problem("a,b\n1,2\n", {.columns = {}, .kinds = {{"ab", ColumnKind::kNumber}}}),
              HasSubstr("no column \"ab\""));
  EXPECT_THAT(problem("1,2\n", {.columns = {"a", "a"}, .kinds = {}}), HasSubstr("named twice"));
  EXPECT_THROW(MappedFile("/nonexistent"), DataError);
  EXPECT_THROW(MappedFile("/"), DataError);
}

TEST_F(CsvSchemaTest, ReadsSchemaFiles) {
  const std::filesystem::path path = directory_ / "schema.csv";
  write_file_atomically(path, "name,kind\nage,number\n\"a,b\",category\nid,ignore\n");
  const std::vector<GivenColumn> columns = read_schema_file(path);
  ASSERT_EQ(columns.size(), 3U);
  EXPECT_EQ(columns[1].name, "a,b");
  EXPECT_EQ(columns[2].kind, ColumnKind::kIgnored);
  for (const char* bad :
       {"", "name\nage\n", "name,kind\n", "name,kind\nage,float\n", "name,kind\nage\n"}) {
    write_file_atomically(path, std::string_view(bad));
    EXPECT_THROW(read_schema_file(path), DataError) << bad;
  }
}

}  // namespace
}  // namespace superstep::worker
