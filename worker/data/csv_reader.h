// Reads comma-separated values record by record: RFC 4180, and nothing that only looks like it.
//
// Fields may be quoted; a quoted field may hold delimiters, line breaks and doubled quotes. Lines
// end with LF or CRLF, mixed if need be, the last one with the end of the file. Blank lines are
// skipped; blanks around a field are not part of it unless quoted (RFC 4180 leaves them in; files
// written by hand, "39, State-gov", want them out). A byte order mark is skipped.
//
//   CsvReader reader(file.path().string(), file.bytes(), {.delimiter = ','});
//   while (reader.next()) {
//     for (const std::string_view field : reader.fields()) use(field);
//   }
//
// What is refused is a DataError with path, byte offset, line and field: a quote inside an unquoted
// field, text after a closing quote, a quote that is never closed (the line where it opens), a lone
// carriage return, a NUL byte. The reader looks at every byte once; memory is that of one record.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::worker {

struct CsvDialect {
  char delimiter = ',';
  // Fields that mean "no value", blanks taken off. Quotes carry no meaning: writers that quote all
  // fields quote these, too.
  std::vector<std::string> missing = {"", "?", "NA", "N/A", "NaN", "nan", "null"};
};

// The words of a dialect that mean "no value", for looking up every field.
class MissingWords {
 public:
  explicit MissingWords(std::span<const std::string> words);

  bool contains(std::string_view field) const {
    if (field.empty()) {
      return has_empty_;
    }
    return begins_[static_cast<unsigned char>(field[0])] && is_listed(field);
  }

 private:
  bool is_listed(std::string_view field) const;

  std::vector<std::string> words_;
  bool has_empty_ = false;
  std::array<bool, 256> begins_{};  // first bytes of the words
};

class CsvReader {
 public:
  // `bytes` is a whole file and must remain valid; `begin` is where a record begins. `path` is for
  // errors. Throws InvalidArgument for a delimiter that is a quote, a line break or a blank.
  CsvReader(std::string path, std::string_view bytes, char delimiter, std::size_t begin = 0);

  // Reads one record; false when none is left.
  bool next();
  std::span<const std::string_view> fields() const { return fields_; }  // until the next next()
  std::size_t record_offset() const { return record_; }
  std::size_t position() const { return position_; }  // behind the record

  // Skips the lines that begin with '|' from here on: comments of the C4.5 format.
  int skip_comments();

  // Throws DataError about a field (from 0) of the current record, with its line.
  [[noreturn]] void fail(std::size_t field, const std::string& what) const;

 private:
  bool read_field();
  bool read_quoted(std::size_t quote);
  void skip_blank_lines();
  std::size_t skip_blanks(std::size_t at) const;
  // After a field: true when a delimiter follows, false at the end of the record.
  bool end_field(std::size_t at);
  std::string_view unescaped(std::string_view raw);
  [[noreturn]] void fail_at(std::size_t offset, std::size_t field, const std::string& what) const;

  std::string path_;
  std::string_view bytes_;
  char delimiter_;
  std::size_t position_;
  std::size_t record_ = 0;
  std::array<bool, 256> special_{};  // bytes that end the run of an unquoted field
  std::vector<std::string_view> fields_;
  std::deque<std::string> unescaped_;  // fields with doubled quotes; a deque, so that views hold
};

// From 1: how many line feeds stand before `offset`, and one.
std::int64_t line_of(std::string_view bytes, std::size_t offset);

}  // namespace superstep::worker
