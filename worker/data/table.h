// The rows of a CSV file, divided among the ranks, column by column in memory.
//
// The file's bytes are cut into kVirtualParts equal ranges; a part holds the records that begin in
// its range, and a rank reads its parts and no other byte (but the rest of a last record). Where
// quotes are open at the border of a range is agreed on by counting them, so that quoted line
// breaks do not matter. Tables are the same for every number of ranks: rows, parts, vocabularies.
//
//   const Table table = read_table(world, file, schema, dialect);     // collective
//   table.columns[3].values[row];                                     // NaN: no value
//
// Categories are numbers, indices into the column's vocabulary: its words sorted, by value when all
// are numbers and by bytes otherwise. Cost: w of two passes over the rank's bytes,
// one of which only counts quotes; h is the vocabularies. Memory: 4 bytes per value.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bsp/world.h"
#include "worker/data/csv_schema.h"

namespace superstep::worker {

// A column of more different words than this is refused: it is text or an identifier.
inline constexpr int kMaxCategories = 65'534;

struct TableColumn {
  std::string name;
  ColumnKind kind = ColumnKind::kNumber;
  std::vector<float> values;            // of this rank's rows; NaN: no value
  std::vector<std::string> vocabulary;  // of categories; the same on every rank
  std::int64_t missing = 0;             // of all rows, unknown ones not counted
  std::int64_t unknown = 0;             // words outside a known vocabulary, taken as no value
};

struct Table {
  std::vector<TableColumn> columns;  // without the ignored ones
  std::int64_t num_rows = 0;         // of this rank
  std::int64_t first_row = 0;        // its index among all
  std::int64_t total_rows = 0;
  std::vector<std::int64_t> part_rows;  // rows of each of this rank's parts, in order

  // Index of a column; throws InvalidArgument with the nearest name. `what` says who asks.
  std::size_t index_of(std::string_view name, std::string_view what) const;
};

// Collective; every rank gives the same file, schema and dialect. With `known` columns (those of
// the table a model was trained on) categories are looked up in their vocabularies: words that are
// not there count as unknown, except that the period that ends a record of the C4.5 format
// ("<=50K." in adult.test) is taken off.
//
// Throws DataError, the same on every rank: that of the first malformed record, a record of another
// length than the schema's, a value that is no number in a column of numbers, a word that is not
// UTF-8, a column with more than kMaxCategories words.
Table read_table(bsp::World& world, const MappedFile& file, const CsvSchema& schema,
                 const CsvDialect& dialect, std::span<const TableColumn> known = {});

}  // namespace superstep::worker
