// Tables are the same on every number of ranks, errors included.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "worker/data/table.h"
#include "worker/data/virtual_parts.h"

namespace superstep::worker {
namespace {

using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;
using testing::WorldDirectory;

// Written by one rank, opened by all.
MappedFile shared_file(bsp::World& world, const WorldDirectory& directory,
                       const std::string& text) {
  const std::filesystem::path path = directory.path() / "table.csv";
  if (world.rank() == 0) {
    write_file_atomically(path, text);
  }
  world.sync();
  return MappedFile(path);
}

Table read(bsp::World& world, const MappedFile& file, std::span<const TableColumn> known = {}) {
  const CsvDialect dialect;
  return read_table(world, file, infer_schema(file, dialect, {}), dialect, known);
}

// All rows, on every rank.
std::vector<float> gathered(bsp::World& world, const Table& table, std::size_t column) {
  std::vector<float> all(static_cast<std::size_t>(table.total_rows));
  world.allgather(std::span<const float>(table.columns[column].values), std::span<float>(all),
                  world.allgather(table.num_rows));
  return all;
}

// Quoted line breaks of every length, so that borders of parts fall into quotes.
std::string awkward_csv(int rows) {
  std::string text = "number,word\n";
  for (int i = 0; i < rows; ++i) {
    text += i % 5 == 3 ? "?" : std::to_string(i);
    text += i % 3 == 0 ? ",\"a" + std::string(static_cast<std::size_t>(i % 17), '\n') + "\"\"b,\"\n"
                       : ", w" + std::to_string(i % 7) + "\r\n";
  }
  return text;
}

SUPERSTEP_WORLD_TEST_ON_NODES(Table, IsTheSameOnEveryNumberOfRanks) {
  for (const int rows : {1, 2, 3, 100, 4000}) {
    const WorldDirectory directory(world);
    const MappedFile file = shared_file(world, directory, awkward_csv(rows));
    bsp::World alone = world.split(world.rank(), 0);
    const Table oracle = read(alone, file);
    const Table table = read(world, file);
    EXPECT_EQ(oracle.total_rows, rows);
    EXPECT_EQ(table.total_rows, rows);
    EXPECT_EQ(table.columns[0].missing, oracle.columns[0].missing);
    EXPECT_EQ(table.columns[1].vocabulary, oracle.columns[1].vocabulary);
    const std::vector<std::int64_t> first_rows = world.allgather(table.first_row);
    EXPECT_TRUE(std::is_sorted(first_rows.begin(), first_rows.end()));
    for (const std::size_t column : {std::size_t{0}, std::size_t{1}}) {
      const std::vector<float> all = gathered(world, table, column);
      for (std::size_t row = 0; row < all.size(); ++row) {
        const float expected = oracle.columns[column].values[row];
        EXPECT_TRUE(all[row] == expected || (std::isnan(all[row]) && std::isnan(expected))) << row;
      }
    }
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(Table, HoldsWhatTheFileSays) {
  const WorldDirectory directory(world);
  const MappedFile file = shared_file(world, directory, "x,c,n\n1,b,10\n2,a,9\n?,b,10\n4,,9\n");
  const CsvDialect dialect;
  const Table table = read_table(
      world, file,
      infer_schema(file, dialect, {.columns = {}, .kinds = {{"n", ColumnKind::kCategory}}}),
      dialect);
  EXPECT_EQ(table.total_rows, 4);
  EXPECT_THAT(table.columns[1].vocabulary, ElementsAre("a", "b"));
  EXPECT_THAT(table.columns[2].vocabulary, ElementsAre("9", "10"));  // by value
  EXPECT_EQ(table.columns[1].missing, 1);
  const std::vector<float> words = gathered(world, table, 1);
  EXPECT_EQ(words[0], 1.0F);
  EXPECT_EQ(words[1], 0.0F);
  EXPECT_TRUE(std::isnan(words[3]));
  EXPECT_EQ(gathered(world, table, 0)[3], 4.0F);
  EXPECT_THROW(table.index_of("y", "test"), InvalidArgument);
}

SUPERSTEP_WORLD_TEST(Table, LooksUpKnownVocabularies) {
  const WorldDirectory directory(world);
  const Table training = read(world, shared_file(world, directory, "c,d\nno,1\nyes,2\n"));
  const Table table =
      read(world, shared_file(world, directory, "c,d\nyes.,1\nperhaps,2\nno,3\nperhaps,4\n"),
           training.columns);
  EXPECT_THAT(table.columns[0].vocabulary, ElementsAre("no", "yes"));
  EXPECT_EQ(table.columns[0].unknown, 2);
  EXPECT_EQ(table.columns[0].missing, 0);
  const std::vector<float> words = gathered(world, table, 0);
  EXPECT_EQ(words[0], 1.0F);
  EXPECT_TRUE(std::isnan(words[1]));
  EXPECT_EQ(words[2], 0.0F);
}

SUPERSTEP_WORLD_TEST(Table, GivesTheFirstErrorOfTheFileOnEveryRank) {
  // Beyond the records that the schema is inferred from, in several parts.
  std::string good = "x,c\n";
  for (int i = 0; i < 200'000; ++i) {
    good += "12345,word\n";
  }
  struct Case {
    std::string record;
    std::string complaint;
  };
  for (const Case& one :
       {Case{"x1,word\n", "line 200002, field 1: column \"x\": got \"x1\", expected a number"},
        Case{"1,word,3\n", "line 200002, field 2: got 3 fields, expected 2"},
        Case{"1,5\" pipe\n", "line 200002, field 2: got a quote inside"},
        Case{"1,\xFF\n", "line 200002, field 2: column \"c\": got bytes that are not UTF-8"},
        Case{"1e999,a\n",
             "line 200002, field 1: column \"x\": got \"1e999\", expected a number "
             "that float32 holds"}}) {
    const WorldDirectory directory(world);
    const MappedFile file =
        shared_file(world, directory, good + one.record + good.substr(4) + "1,2,3,4\n");
    EXPECT_THAT(error_text<DataError>([&] { read(world, file); }), HasSubstr(one.complaint));
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(Table, RefusesColumnsOfIdentifiers) {
  const WorldDirectory directory(world);
  std::string text = "x,c\n";
  for (int i = 0; i <= kMaxCategories; ++i) {
    text += "1,id" + std::to_string(i) + "\n";
  }
  const MappedFile file = shared_file(world, directory, text);
  EXPECT_THROW(read(world, file), DataError);
}

SUPERSTEP_WORLD_TEST(VirtualParts, CoverAllPartsInOrder) {
  int begin = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    EXPECT_EQ(parts_of_rank(rank, world.size()).begin, begin);
    begin = parts_of_rank(rank, world.size()).end;
  }
  EXPECT_EQ(begin, kVirtualParts);
  const PartRange mine = parts_of_rank(world.rank(), world.size());
  std::vector<double> values;
  double expected = 0.0;
  for (int part = 0; part < kVirtualParts; ++part) {
    const double value = 1.0 / (1 + part);
    expected += value;
    if (part >= mine.begin && part < mine.end) {
      values.push_back(value);
    }
  }
  EXPECT_EQ(sum_over_parts(world, values), expected);  // to the bit
}

}  // namespace
}  // namespace superstep::worker
