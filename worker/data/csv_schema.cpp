#include "worker/data/csv_schema.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "worker/data/csv_number.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kInferSchema = "infer_schema";
constexpr std::size_t kSampleBytes = std::size_t{1} << 20;
constexpr std::size_t kShownBytes = 40;  // of a value in a message

struct KindName {
  ColumnKind kind;
  std::string_view name;
};
constexpr std::array<KindName, 3> kKindNames = {{{ColumnKind::kNumber, "number"},
                                                 {ColumnKind::kCategory, "category"},
                                                 {ColumnKind::kIgnored, "ignore"}}};

std::string repeated_name(std::span<const std::string> names) {
  std::set<std::string_view> seen;
  for (const std::string& name : names) {
    if (!seen.insert(name).second) {
      return name;
    }
  }
  return {};
}

// A file of one column that is full of another delimiter.
std::string delimiter_hint(std::string_view text, char delimiter) {
  for (const char other : {';', '\t', ',', '|'}) {
    if (other != delimiter && text.find(other) != std::string_view::npos) {
      return fmt::format("; is the delimiter {}?",
                         other == '\t' ? std::string("a tab") : fmt::format("'{}'", other));
    }
  }
  return {};
}

bool is_number(std::string_view field) {
  float ignored = 0.0F;
  return parse_number(field, ignored) == NumberParse::kNumber;
}

std::vector<std::string> texts_of(std::span<const std::string_view> fields) {
  return {fields.begin(), fields.end()};
}

// Reads the names; leaves the reader before the first record of data.
std::vector<std::string> read_header(CsvReader& reader, char delimiter) {
  const std::span<const std::string_view> fields = reader.fields();
  std::vector<std::string> names = texts_of(fields);
  const bool looks_like_data = std::all_of(fields.begin(), fields.end(), is_number);
  if (looks_like_data) {
    reader.fail(0,
                "the first record holds numbers alone, expected the names of the columns; give "
                "them (--columns, --schema)");
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) {
      reader.fail(i, "column without a name in the header");
    }
  }
  if (const std::string twice = repeated_name(names); !twice.empty()) {
    const auto second = std::find(names.rbegin(), names.rend(), twice);
    reader.fail(static_cast<std::size_t>(names.rend() - second) - 1,
                fmt::format("the header names \"{}\" twice", twice));
  }
  if (names.size() == 1) {
    if (const std::string hint = delimiter_hint(names[0], delimiter); !hint.empty()) {
      reader.fail(0,
                  fmt::format("got one column, \"{}\"{}", names[0].substr(0, kShownBytes), hint));
    }
  }
  return names;
}

class SchemaInference {
 public:
  SchemaInference(const MappedFile& file, const CsvDialect& dialect, const SchemaRequest& request)
      : dialect_(dialect),
        missing_(dialect.missing),
        request_(request),
        reader_(file.path().string(), file.bytes(), dialect.delimiter),
        file_(file) {}

  CsvSchema run() {
    read_names();
    schema_.data_begin = reader_.position();
    sample();
    for (ColumnSchema& column : schema_.columns) {
      if (column.reason.empty()) {
        column.reason =
            fmt::format("in all of the first {} records", grouped(schema_.sampled_records));
      }
    }
    apply_given_kinds();
    return std::move(schema_);
  }

 private:
  void read_names() {
    schema_.comment_lines = reader_.skip_comments();
    const std::size_t begin = reader_.position();
    if (!reader_.next()) {
      throw DataError(kInferSchema, file_.path().string(), 0, "got no record, expected data");
    }
    std::vector<std::string> names = request_.columns;
    schema_.has_header = names.empty() || texts_of(reader_.fields()) == names;
    if (names.empty()) {
      names = read_header(reader_, dialect_.delimiter);
    } else if (const std::string twice = repeated_name(names); !twice.empty()) {
      throw InvalidArgument(kInferSchema, fmt::format("the column \"{}\" is named twice", twice));
    }
    for (std::string& name : names) {
      schema_.columns.push_back(
          {.name = std::move(name), .kind = ColumnKind::kNumber, .reason = {}});
    }
    if (!schema_.has_header) {
      reader_ = CsvReader(file_.path().string(), file_.bytes(), dialect_.delimiter, begin);
    }
  }

  void sample() {
    const std::size_t end = schema_.data_begin + kSampleBytes;
    std::vector<bool> has_value(schema_.columns.size());
    while (reader_.position() < end && reader_.next()) {
      ++schema_.sampled_records;
      const std::span<const std::string_view> fields = reader_.fields();
      require_width(fields.size());
      for (std::size_t i = 0; i < fields.size(); ++i) {
        has_value[i] = look_at_field(fields[i], schema_.columns[i]) || has_value[i];
      }
    }
    if (schema_.sampled_records == 0) {
      throw DataError(kInferSchema, file_.path().string(),
                      static_cast<std::int64_t>(schema_.data_begin),
                      "got a header and no record, expected data");
    }
    for (std::size_t i = 0; i < has_value.size(); ++i) {
      if (!has_value[i]) {
        schema_.columns[i].reason = "no value among the first records";
      }
    }
  }

  void require_width(std::size_t width) const {
    if (width != schema_.columns.size()) {
      reader_.fail(std::min(width, schema_.columns.size()) - 1,
                   fmt::format("got {} fields, expected {}{}", width, schema_.columns.size(),
                               width == 1 ? delimiter_hint(reader_.fields()[0], dialect_.delimiter)
                                          : std::string()));
    }
  }

  // Returns whether the field has a value.
  bool look_at_field(std::string_view field, ColumnSchema& column) const {
    if (missing_.contains(field)) {
      return false;
    }
    if (column.kind == ColumnKind::kNumber && !is_number(field)) {
      column.kind = ColumnKind::kCategory;
      column.reason =
          fmt::format("line {} holds \"{}\"", line_of(file_.bytes(), reader_.record_offset()),
                      field.substr(0, kShownBytes));
    }
    return true;
  }

  void apply_given_kinds() {
    for (const GivenColumn& given : request_.kinds) {
      ColumnSchema& column = schema_.columns[schema_.index_of(given.name, "schema")];
      column.kind = given.kind;
      column.reason = "as told";
    }
  }

  const CsvDialect& dialect_;
  MissingWords missing_;
  const SchemaRequest& request_;
  CsvReader reader_;
  const MappedFile& file_;
  CsvSchema schema_;
};

}  // namespace

std::string_view name_of(ColumnKind kind) {
  for (const KindName& entry : kKindNames) {
    if (entry.kind == kind) {
      return entry.name;
    }
  }
  return "unknown";
}

std::size_t CsvSchema::index_of(std::string_view name, std::string_view what) const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].name == name) {
      return i;
    }
    names.push_back(columns[i].name);
  }
  throw InvalidArgument(what, fmt::format("no column \"{}\"{}", name, did_you_mean(name, names)));
}

CsvSchema infer_schema(const MappedFile& file, const CsvDialect& dialect,
                       const SchemaRequest& request) {
  return SchemaInference(file, dialect, request).run();
}

std::vector<GivenColumn> read_schema_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  CsvReader reader(path.string(), file.bytes(), ',');
  const std::vector<std::string> header = {"name", "kind"};
  if (!reader.next() || texts_of(reader.fields()) != header) {
    throw DataError("read_schema_file", path.string(), 0,
                    "got another first line, expected \"name,kind\"");
  }
  std::vector<GivenColumn> columns;
  while (reader.next()) {
    if (reader.fields().size() != header.size()) {
      reader.fail(0, fmt::format("got {} fields, expected name and kind", reader.fields().size()));
    }
    const std::string_view kind = reader.fields()[1];
    const auto known = std::find_if(kKindNames.begin(), kKindNames.end(),
                                    [&](const KindName& entry) { return entry.name == kind; });
    if (known == kKindNames.end()) {
      reader.fail(1, fmt::format("got \"{}\", expected number, category or ignore",
                                 kind.substr(0, kShownBytes)));
    }
    columns.push_back({.name = std::string(reader.fields()[0]), .kind = known->kind});
  }
  if (columns.empty()) {
    throw DataError("read_schema_file", path.string(), -1, "got no column, expected at least one");
  }
  return columns;
}

std::string to_text(const CsvSchema& schema) {
  std::size_t width = 0;
  for (const ColumnSchema& column : schema.columns) {
    width = std::max(width, column.name.size());
  }
  std::string text;
  for (const ColumnSchema& column : schema.columns) {
    text += fmt::format("  {:<{}}  {:<8}  {}\n", column.name, width, name_of(column.kind),
                        column.reason);
  }
  return text;
}

}  // namespace superstep::worker
