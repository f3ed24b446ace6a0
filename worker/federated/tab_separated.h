// The rows of a tab-separated text with a header, for readers that refuse by line.
//
//   TabSeparated rows("read_partition", text, file);
//   const std::size_t index = rows.column("index");
//   while (rows.next()) {
//     use(rows.integer(index, 0, num_samples - 1));
//   }
//
// Empty lines are skipped, a carriage return at the end of a line is no part of it. Everything
// wrong is a DataError "line 3: ..." that names the file: a column that is not there, a row with
// more or fewer cells than the header, a cell that is not what is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace superstep::worker {

class TabSeparated {
 public:
  // Reads the header. `where` and `text` must outlive this object; `file` is named in messages.
  TabSeparated(std::string_view where, std::string_view text, const std::filesystem::path& file,
               ExitCode on_error = ExitCode::kBadData);

  std::size_t column(std::string_view name) const;
  std::optional<std::size_t> find_column(std::string_view name) const;

  // Goes to the next row; false when there is none.
  bool next();
  std::string_view cell(std::size_t column) const { return cells_[column]; }
  std::int64_t integer(std::size_t column, std::int64_t least, std::int64_t most) const;
  // A finite number in [least, most].
  double number(std::size_t column, double least, double most) const;

  std::int64_t line() const { return line_; }
  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::string_view take_line();

  std::string_view where_;
  std::string_view rest_;
  std::string file_;
  ExitCode on_error_;
  std::int64_t line_ = 0;
  std::vector<std::string_view> names_;
  std::vector<std::string_view> cells_;
};

}  // namespace superstep::worker
