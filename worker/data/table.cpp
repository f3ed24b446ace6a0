#include "worker/data/table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "worker/data/csv_number.h"
#include "worker/data/virtual_parts.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kReadCsv = "read_csv";
constexpr float kNoValue = std::numeric_limits<float>::quiet_NaN();
constexpr std::size_t kShownWordBytes = 40;  // of a value in a message

struct WordHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view word) const {
    return std::hash<std::string_view>{}(word);
  }
};
using WordCodes = std::unordered_map<std::string, float, WordHash, std::equal_to<>>;

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) {
      return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0U;
    };
    const unsigned first = byte(0);
    const std::size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    const unsigned second = byte(1);
    const bool begins = first < 0x80 || (first >= 0xC2 && first <= 0xF4);
    const bool in_range = !(first == 0xE0 && second < 0xA0) && !(first == 0xED && second > 0x9F) &&
                          !(first == 0xF0 && second < 0x90) && !(first == 0xF4 && second > 0x8F);
    if (!begins || !in_range) {
      return false;
    }
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(k) & 0xC0U) != 0x80U) {
        return false;
      }
    }
    i += length;
  }
  return true;
}

// Collects one column of this rank's rows.
class ColumnReader {
 public:
  // `known` may be null; else its vocabulary is the only one.
  ColumnReader(const ColumnSchema& schema, const TableColumn* known) : kind_(schema.kind) {
    column_.name = schema.name;
    column_.kind = schema.kind;
    if (known != nullptr && kind_ == ColumnKind::kCategory) {
      is_known_ = true;
      column_.vocabulary = known->vocabulary;
      for (std::size_t i = 0; i < column_.vocabulary.size(); ++i) {
        codes_.emplace(column_.vocabulary[i], static_cast<float>(i));
      }
    }
  }

  bool is_ignored() const { return kind_ == ColumnKind::kIgnored; }
  bool needs_vocabulary() const { return kind_ == ColumnKind::kCategory && !is_known_; }

  void add_missing() {
    column_.values.push_back(kNoValue);
    ++column_.missing;
  }

  // Returns what is wrong with the field, or nothing.
  std::optional<std::string> add(std::string_view field) {
    return kind_ == ColumnKind::kNumber ? add_number(field) : add_word(field);
  }

  // The words so far, by code.
  std::vector<std::string> words() const {
    std::vector<std::string> words(codes_.size());
    for (const auto& [word, code] : codes_) {
      words[static_cast<std::size_t>(code)] = word;
    }
    return words;
  }

  // Gives the column the vocabulary of all ranks, which holds every word that was read here.
  void adopt(std::vector<std::string> vocabulary, const std::vector<std::string>& own_words) {
    std::unordered_map<std::string_view, float> places;
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      places.emplace(vocabulary[i], static_cast<float>(i));
    }
    std::vector<float> place_of_code;
    place_of_code.reserve(own_words.size());
    for (const std::string& word : own_words) {
      place_of_code.push_back(places.at(word));
    }
    for (float& value : column_.values) {
      if (!std::isnan(value)) {
        value = place_of_code[static_cast<std::size_t>(value)];
      }
    }
    column_.vocabulary = std::move(vocabulary);
  }

  TableColumn& column() { return column_; }

 private:
  std::optional<std::string> add_number(std::string_view field) {
    float value = 0.0F;
    switch (parse_number(field, value)) {
      case NumberParse::kNumber:
        column_.values.push_back(value);
        return std::nullopt;
      case NumberParse::kOutOfRange:
        return fmt::format("got \"{}\", expected a number that float32 holds",
                           field.substr(0, kShownWordBytes));
      case NumberParse::kNotANumber:
        break;
    }
    return fmt::format(
        "got \"{}\", expected a number, as in the first records, or a word for no "
        "value (--missing adds one, --schema makes the column a category)",
        field.substr(0, kShownWordBytes));
  }

  std::optional<std::string> add_word(std::string_view word) {
    if (!column_.values.empty() && word == last_word_) {
      column_.values.push_back(last_code_);
      column_.unknown += std::isnan(last_code_) ? 1 : 0;
      return std::nullopt;
    }
    auto found = codes_.find(word);
    if (found == codes_.end() && is_known_ && word.ends_with('.')) {
      found = codes_.find(word.substr(0, word.size() - 1));
    }
    float code = kNoValue;
    if (found != codes_.end()) {
      code = found->second;
    } else if (is_known_) {
      ++column_.unknown;
    } else if (!is_utf8(word)) {
      return "got bytes that are not UTF-8, expected text";
    } else if (codes_.size() == static_cast<std::size_t>(kMaxCategories)) {
      return fmt::format(
          "more than {} different words; a column of text or identifiers? Ignore it "
          "(--schema)",
          kMaxCategories);
    } else {
      code = static_cast<float>(codes_.size());
      codes_.emplace(word, code);
    }
    column_.values.push_back(code);
    last_word_.assign(word);
    last_code_ = code;
    return std::nullopt;
  }

  ColumnKind kind_;
  bool is_known_ = false;
  TableColumn column_;
  WordCodes codes_;
  std::string last_word_;
  float last_code_ = kNoValue;
};

// Where the parts' ranges of bytes begin, and the end of the last.
std::vector<std::size_t> range_borders(std::size_t begin, std::size_t end) {
  std::vector<std::size_t> borders;
  borders.reserve(kVirtualParts + 1);
  const std::size_t size = end - begin;
  for (std::size_t part = 0; part <= kVirtualParts; ++part) {
    borders.push_back(begin + size / kVirtualParts * part +
                      size % kVirtualParts * part / kVirtualParts);
  }
  return borders;
}

// The first record that begins at or behind `border`.
std::size_t record_at(std::string_view bytes, std::size_t border, std::size_t data_begin,
                      bool in_quotes) {
  if (border == data_begin || (!in_quotes && bytes[border - 1] == '\n')) {
    return border;
  }
  for (std::size_t i = border; i < bytes.size(); ++i) {
    if (bytes[i] == '"') {
      in_quotes = !in_quotes;
    } else if (bytes[i] == '\n' && !in_quotes) {
      return i + 1;
    }
  }
  return bytes.size();
}

class TableReader {
 public:
  TableReader(bsp::World& world, const MappedFile& file, const CsvSchema& schema,
              const CsvDialect& dialect, std::span<const TableColumn> known)
      : world_(world),
        file_(file),
        schema_(schema),
        dialect_(dialect),
        missing_(dialect.missing),
        mine_(parts_of_rank(world.rank(), world.size())),
        borders_(range_borders(schema.data_begin, file.bytes().size())) {
    for (const ColumnSchema& column : schema.columns) {
      const auto same = std::find_if(known.begin(), known.end(), [&](const TableColumn& other) {
        return other.name == column.name;
      });
      columns_.emplace_back(column, same == known.end() ? nullptr : &*same);
    }
  }

  Table run() {
    const std::vector<bool> in_quotes = open_quotes();
    std::optional<DataError> error;
    try {
      for (int part = mine_.begin; part < mine_.end; ++part) {
        read_part(static_cast<std::size_t>(part), in_quotes[static_cast<std::size_t>(part)]);
      }
    } catch (const DataError& problem) {
      error = problem;
    }
    throw_first(error);
    place_rows();
    agree_on_vocabularies();
    add_up_counts();
    for (ColumnReader& column : columns_) {
      if (!column.is_ignored()) {
        table_.columns.push_back(std::move(column.column()));
      }
    }
    return std::move(table_);
  }

 private:
  // Whether quotes are open at the border of each part.
  std::vector<bool> open_quotes() {
    const std::string_view bytes = file_.bytes();
    std::vector<std::uint8_t> odd;
    for (int part = mine_.begin; part < mine_.end; ++part) {
      const auto index = static_cast<std::size_t>(part);
      const std::string_view range =
          bytes.substr(borders_[index], borders_[index + 1] - borders_[index]);
      odd.push_back(std::count(range.begin(), range.end(), '"') % 2 == 1 ? 1 : 0);
    }
    std::vector<bool> open;
    bool in_quotes = false;
    for (const std::uint8_t one : allgather_parts<std::uint8_t>(world_, odd)) {
      open.push_back(in_quotes);
      in_quotes = in_quotes != (one == 1);
    }
    return open;
  }

  void read_part(std::size_t part, bool in_quotes) {
    const std::size_t end = borders_[part + 1];
    std::int64_t rows = 0;
    if (borders_[part] < end) {
      CsvReader reader(file_.path().string(), file_.bytes(), dialect_.delimiter,
                       record_at(file_.bytes(), borders_[part], schema_.data_begin, in_quotes));
      while (reader.position() < end && reader.next() && reader.record_offset() < end) {
        add_record(reader);
        ++rows;
      }
    }
    table_.part_rows.push_back(rows);
  }

  void add_record(const CsvReader& reader) {
    const std::span<const std::string_view> fields = reader.fields();
    if (fields.size() != columns_.size()) {
      reader.fail(std::min(fields.size(), columns_.size()) - 1,
                  fmt::format("got {} fields, expected {}", fields.size(), columns_.size()));
    }
    for (std::size_t i = 0; i < fields.size(); ++i) {
      ColumnReader& column = columns_[i];
      if (column.is_ignored()) {
        continue;
      }
      if (missing_.contains(fields[i])) {
        column.add_missing();
      } else if (const std::optional<std::string> problem = column.add(fields[i])) {
        reader.fail(i, fmt::format("column \"{}\": {}", schema_.columns[i].name, *problem));
      }
    }
  }

  // The error that comes first in the file, on every rank.
  void throw_first(const std::optional<DataError>& error) {
    constexpr auto kNone = std::numeric_limits<std::int64_t>::max();
    const std::int64_t mine = error ? error->offset() : kNone;
    const std::int64_t first = world_.allreduce(mine, bsp::ReduceOp::kMin);
    if (first == kNone) {
      return;
    }
    std::string text;
    if (mine == first) {
      const std::string prefix = DataError(kReadCsv, error->path(), first, "").what();
      text = std::string(error->what()).substr(prefix.size());
    }
    for (const std::string& one : world_.allgather_string(text)) {
      if (!one.empty()) {
        throw DataError(kReadCsv, file_.path().string(), first, one);
      }
    }
  }

  void place_rows() {
    const std::vector<std::int64_t> rows = allgather_parts<std::int64_t>(world_, table_.part_rows);
    table_.first_row = std::accumulate(rows.begin(), rows.begin() + mine_.begin, std::int64_t{0});
    table_.total_rows = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
    table_.num_rows =
        std::accumulate(table_.part_rows.begin(), table_.part_rows.end(), std::int64_t{0});
  }

  void agree_on_vocabularies() {
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].needs_vocabulary()) {
        const std::vector<std::string> words = columns_[i].words();
        columns_[i].adopt(united(words, schema_.columns[i].name), words);
      }
    }
  }

  // The words of all ranks, sorted.
  std::vector<std::string> united(const std::vector<std::string>& words, const std::string& name) {
    std::string packed;  // length, a colon, the word
    for (const std::string& word : words) {
      packed += fmt::format("{}:", word.size());
      packed += word;
    }
    std::vector<std::string> all;
    for (const std::string& one : world_.allgather_string(packed)) {
      for (std::size_t at = 0; at < one.size();) {
        const std::size_t colon = one.find(':', at);
        const std::size_t length = std::stoul(one.substr(at, colon - at));
        all.push_back(one.substr(colon + 1, length));
        at = colon + 1 + length;
      }
    }
    sort_words(all);
    all.erase(std::unique(all.begin(), all.end()), all.end());
    if (all.size() > static_cast<std::size_t>(kMaxCategories)) {
      throw DataError(kReadCsv, file_.path().string(), -1,
                      fmt::format("column \"{}\": got {} different words, expected at most {}; a "
                                  "column of text or identifiers? Ignore it (--schema)",
                                  name, all.size(), kMaxCategories));
    }
    return all;
  }

  static void sort_words(std::vector<std::string>& words) {
    std::vector<std::pair<float, std::string>> numbered;
    for (std::string& word : words) {
      float value = 0.0F;
      if (parse_number(word, value) != NumberParse::kNumber) {
        numbered.clear();
        break;
      }
      numbered.emplace_back(value, word);
    }
    if (numbered.empty()) {
      std::sort(words.begin(), words.end());
      return;
    }
    std::sort(numbered.begin(), numbered.end());
    std::transform(numbered.begin(), numbered.end(), words.begin(),
                   [](std::pair<float, std::string>& pair) { return std::move(pair.second); });
  }

  void add_up_counts() {
    std::vector<std::int64_t> counts;
    for (ColumnReader& column : columns_) {
      counts.push_back(column.column().missing);
      counts.push_back(column.column().unknown);
    }
    world_.allreduce(std::span<const std::int64_t>(counts), std::span<std::int64_t>(counts),
                     bsp::ReduceOp::kSum);
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      columns_[i].column().missing = counts[2 * i];
      columns_[i].column().unknown = counts[2 * i + 1];
    }
  }

  bsp::World& world_;
  const MappedFile& file_;
  const CsvSchema& schema_;
  const CsvDialect& dialect_;
  MissingWords missing_;
  PartRange mine_;
  std::vector<std::size_t> borders_;
  std::vector<ColumnReader> columns_;
  Table table_;
};

}  // namespace

std::size_t Table::index_of(std::string_view name, std::string_view what) const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].name == name) {
      return i;
    }
    names.push_back(columns[i].name);
  }
  throw InvalidArgument(what, fmt::format("no column \"{}\"{}", name, did_you_mean(name, names)));
}

Table read_table(bsp::World& world, const MappedFile& file, const CsvSchema& schema,
                 const CsvDialect& dialect, std::span<const TableColumn> known) {
  return TableReader(world, file, schema, dialect, known).run();
}

}  // namespace superstep::worker
