#include "worker/federated/tab_separated.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include <fmt/format.h>

namespace superstep::worker {

namespace {

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  while (true) {
    const std::size_t tab = line.find('\t');
    cells.push_back(line.substr(0, tab));
    if (tab == std::string_view::npos) {
      return cells;
    }
    line.remove_prefix(tab + 1);
  }
}

// Whether all of the text is one number.
template <typename Number>
bool parse_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

TabSeparated::TabSeparated(std::string_view where, std::string_view text,
                           const std::filesystem::path& file, ExitCode on_error)
    : where_(where), rest_(text), file_(file.string()), on_error_(on_error) {
  names_ = cells_of(take_line());
}

void TabSeparated::fail(const std::string& what) const {
  throw DataError(where_, file_, -1, fmt::format("line {}: {}", line_, what), on_error_);
}

std::string_view TabSeparated::take_line() {
  const std::size_t end = rest_.find('\n');
  std::string_view line = rest_.substr(0, end);
  rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
  if (!line.empty() && line.back() == '\r') {
    line.remove_suffix(1);
  }
  ++line_;
  return line;
}

std::optional<std::size_t> TabSeparated::find_column(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  return found == names_.end()
             ? std::nullopt
             : std::optional<std::size_t>(static_cast<std::size_t>(found - names_.begin()));
}

std::size_t TabSeparated::column(std::string_view name) const {
  const std::optional<std::size_t> found = find_column(name);
  if (!found) {
    fail(fmt::format("no column '{}': got {}, expected a header that names it", name,
                     fmt::join(names_, ", ")));
  }
  return *found;
}

bool TabSeparated::next() {
  while (!rest_.empty()) {
    const std::string_view line = take_line();
    if (line.empty()) {
      continue;
    }
    cells_ = cells_of(line);
    if (cells_.size() != names_.size()) {
      fail(fmt::format("cells: got {}, expected {}", cells_.size(), names_.size()));
    }
    return true;
  }
  return false;
}

std::int64_t TabSeparated::integer(std::size_t column, std::int64_t least,
                                   std::int64_t most) const {
  std::int64_t value = 0;
  if (!parse_number(cells_[column], value) || value < least || value > most) {
    fail(fmt::format("{}: got \"{}\", expected {} to {}", names_[column], cells_[column], least,
                     most));
  }
  return value;
}

double TabSeparated::number(std::size_t column, double least, double most) const {
  double value = 0.0;
  // Not "value < least || ...": a NaN must fail too.
  if (!parse_number(cells_[column], value) || !(value >= least && value <= most)) {
    fail(fmt::format("{}: got \"{}\", expected a number in [{}, {}]", names_[column],
                     cells_[column], least, most));
  }
  return value;
}

}  // namespace superstep::worker
