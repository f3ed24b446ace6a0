// What the columns of a CSV file are: read from its header, its first records, or a schema file.
//
//   const CsvSchema schema = infer_schema(file, dialect, {.columns = {"age", "workclass"}});
//   say(to_text(schema));              // one line per column: name, kind, why
//
// Without names of its own the file's first record is the header. With names (`columns`, or those
// of a schema file) the first record is data, unless it repeats the names. A column is a number
// when all its values among the first records are, else a category; what it is holds for the whole
// file, so that every rank decides alike and reads the file once. A later value that does not fit
// is an error that names line and column, not a silent change of kind. Cost: the first MiB is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/csv_reader.h"
#include "worker/data/mapped_file.h"

namespace superstep::worker {

enum class ColumnKind : std::uint8_t { kNumber, kCategory, kIgnored };

std::string_view name_of(ColumnKind kind);

struct ColumnSchema {
  std::string name;
  ColumnKind kind = ColumnKind::kNumber;
  std::string reason;  // why it is of this kind, for people
};

struct CsvSchema {
  std::vector<ColumnSchema> columns;  // in the order of the file
  std::size_t data_begin = 0;         // byte offset of the first record of data
  bool has_header = false;
  int comment_lines = 0;  // before the first record
  std::int64_t sampled_records = 0;

  // Index of a column; throws InvalidArgument with the nearest name. `what` says who asks.
  std::size_t index_of(std::string_view name, std::string_view what) const;
};

struct GivenColumn {
  std::string name;
  ColumnKind kind = ColumnKind::kNumber;
};

struct SchemaRequest {
  std::vector<std::string> columns;  // names in order; empty: the first record
  std::vector<GivenColumn> kinds;    // columns whose kind is not to be inferred
};

// Throws DataError when the file has no data, when a record among the first is malformed or of
// another length, when the header has no or equal names; InvalidArgument for a name of `kinds` that
// no column has, and for equal names in `columns`.
CsvSchema infer_schema(const MappedFile& file, const CsvDialect& dialect,
                       const SchemaRequest& request);

// A schema file: itself CSV, with the header "name,kind" and a record per column in order; kinds
// are number, category, ignore.
std::vector<GivenColumn> read_schema_file(const std::filesystem::path& path);

// "  age             number    in all of the first 4096 records"
std::string to_text(const CsvSchema& schema);

}  // namespace superstep::worker
