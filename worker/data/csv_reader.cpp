#include "worker/data/csv_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

}  // namespace

std::int64_t line_of(std::string_view bytes, std::size_t offset) {
  const auto end = bytes.begin() + static_cast<std::ptrdiff_t>(std::min(offset, bytes.size()));
  return 1 + std::count(bytes.begin(), end, '\n');
}

MissingWords::MissingWords(std::span<const std::string> words)
    : words_(words.begin(), words.end()) {
  for (const std::string& word : words_) {
    if (word.empty()) {
      has_empty_ = true;
    } else {
      begins_[static_cast<unsigned char>(word[0])] = true;
    }
  }
}

bool MissingWords::is_listed(std::string_view field) const {
  return std::find(words_.begin(), words_.end(), field) != words_.end();
}

CsvReader::CsvReader(std::string path, std::string_view bytes, char delimiter, std::size_t begin)
    : path_(std::move(path)), bytes_(bytes), delimiter_(delimiter), position_(begin) {
  if (std::string_view("\"\n\r ").find(delimiter) != std::string_view::npos || delimiter == '\0') {
    throw InvalidArgument("CsvReader",
                          fmt::format("delimiter: got the character {}, expected none of quote, "
                                      "blank, line break and NUL",
                                      static_cast<int>(delimiter)));
  }
  if (begin == 0 && bytes_.starts_with(kByteOrderMark)) {
    position_ = kByteOrderMark.size();
  }
  for (const char c : {delimiter, '\n', '\r', '"', '\0'}) {
    special_[static_cast<unsigned char>(c)] = true;
  }
}

bool CsvReader::next() {
  skip_blank_lines();
  record_ = position_;
  fields_.clear();
  unescaped_.clear();
  if (position_ == bytes_.size()) {
    return false;
  }
  while (read_field()) {
  }
  return true;
}

void CsvReader::skip_blank_lines() {
  for (;;) {
    const std::size_t at = skip_blanks(position_);
    if (at < bytes_.size() && bytes_[at] == '\n') {
      position_ = at + 1;
    } else if (bytes_.substr(at, 2) == "\r\n") {
      position_ = at + 2;
    } else {
      position_ = at == bytes_.size() ? at : position_;
      return;
    }
  }
}

std::size_t CsvReader::skip_blanks(std::size_t at) const {
  while (at < bytes_.size() && is_blank(bytes_[at]) && bytes_[at] != delimiter_) {
    ++at;
  }
  return at;
}

int CsvReader::skip_comments() {
  int skipped = 0;
  for (skip_blank_lines();
       position_ < bytes_.size() && bytes_[position_] == '|' && delimiter_ != '|';
       skip_blank_lines()) {
    const std::size_t end = bytes_.find('\n', position_);
    position_ = end == std::string_view::npos ? bytes_.size() : end + 1;
    ++skipped;
  }
  return skipped;
}

bool CsvReader::read_field() {
  const std::size_t begin = skip_blanks(position_);
  const std::size_t size = bytes_.size();
  if (begin < size && bytes_[begin] == '"') {
    return read_quoted(begin);
  }
  std::size_t at = begin;
  while (at < size && !special_[static_cast<unsigned char>(bytes_[at])]) {
    ++at;
  }
  std::size_t end = at;
  while (end > begin && is_blank(bytes_[end - 1])) {
    --end;
  }
  fields_.push_back(bytes_.substr(begin, end - begin));
  return end_field(at);
}

bool CsvReader::read_quoted(std::size_t quote) {
  std::size_t at = quote + 1;
  bool escaped = false;
  for (;;) {
    at = bytes_.find('"', at);
    if (at == std::string_view::npos) {
      fail_at(quote, fields_.size(), "a quote opens here and is never closed");
    }
    if (at + 1 == bytes_.size() || bytes_[at + 1] != '"') {
      break;
    }
    escaped = true;
    at += 2;
  }
  const std::string_view raw = bytes_.substr(quote + 1, at - quote - 1);
  if (const std::size_t nul = raw.find('\0'); nul != std::string_view::npos) {
    fail_at(quote + 1 + nul, fields_.size(), "got a NUL byte, expected text");
  }
  fields_.push_back(escaped ? unescaped(raw) : raw);
  at = skip_blanks(at + 1);
  if (at < bytes_.size() && !special_[static_cast<unsigned char>(bytes_[at])]) {
    fail_at(at, fields_.size() - 1, "got text after the closing quote, expected a delimiter");
  }
  return end_field(at);
}

std::string_view CsvReader::unescaped(std::string_view raw) {
  std::string& text = unescaped_.emplace_back();
  for (std::size_t i = 0; i < raw.size(); ++i) {
    text += raw[i];
    i += raw[i] == '"' ? 1 : 0;  // the second of a pair
  }
  return text;
}

bool CsvReader::end_field(std::size_t at) {
  if (at == bytes_.size()) {
    position_ = at;
    return false;
  }
  const char c = bytes_[at];
  if (c == delimiter_) {
    position_ = at + 1;
    return true;
  }
  if (c == '\n') {
    position_ = at + 1;
    return false;
  }
  const std::size_t field = fields_.size() - 1;
  if (c == '\r') {
    if (at + 1 < bytes_.size() && bytes_[at + 1] == '\n') {
      position_ = at + 2;
      return false;
    }
    fail_at(at, field, "got a carriage return without a line feed, expected LF or CRLF");
  }
  if (c == '"') {
    fail_at(at, field, "got a quote inside an unquoted field; quote the field and double it");
  }
  fail_at(at, field, "got a NUL byte, expected text");
}

void CsvReader::fail(std::size_t field, const std::string& what) const {
  std::size_t offset = record_;
  if (field < fields_.size()) {
    const std::string_view text = fields_[field];
    if (text.data() >= bytes_.data() && text.data() <= bytes_.data() + bytes_.size()) {
      offset = static_cast<std::size_t>(text.data() - bytes_.data());
    }
  }
  fail_at(offset, field, what);
}

void CsvReader::fail_at(std::size_t offset, std::size_t field, const std::string& what) const {
  throw DataError("read_csv", path_, static_cast<std::int64_t>(offset),
                  fmt::format("line {}, field {}: {}", line_of(bytes_, offset), field + 1, what));
}

}  // namespace superstep::worker
