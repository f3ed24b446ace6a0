#include "worker/federated/availability_trace.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/file.h"
#include "worker/federated/tab_separated.h"

namespace superstep::worker {

namespace {

constexpr std::int64_t kMaxTraceBytes = std::int64_t{1} << 32;

struct TraceRow {
  std::int64_t client = 0;
  AvailabilityWindow window;
  std::int64_t line = 0;
};

std::vector<TraceRow> read_rows(TabSeparated& rows, std::int64_t num_clients) {
  const std::size_t client = rows.column("client");
  const std::size_t begin = rows.column("begin");
  const std::size_t end = rows.column("end");
  std::vector<TraceRow> result;
  while (rows.next()) {
    TraceRow row;
    row.client = rows.integer(client, 0, num_clients - 1);
    row.window.begin = virtual_duration(rows.number(begin, 0.0, kMostVirtualSeconds));
    row.window.end = virtual_duration(rows.number(end, 0.0, kMostVirtualSeconds));
    row.line = rows.line();
    if (row.window.end <= row.window.begin) {
      rows.fail(fmt::format("a window ends before it begins: got {} to {}", rows.cell(begin),
                            rows.cell(end)));
    }
    result.push_back(row);
  }
  if (result.empty()) {
    rows.fail("no window is listed: expected at least one line after the header");
  }
  return result;
}

}  // namespace

AvailabilityTrace AvailabilityTrace::read(const std::filesystem::path& file,
                                          std::int64_t num_clients) {
  return parse(read_text_file(file, kMaxTraceBytes), file, num_clients);
}

AvailabilityTrace AvailabilityTrace::parse(std::string_view text, const std::filesystem::path& file,
                                           std::int64_t num_clients) {
  TabSeparated table("read_availability", text, file);
  std::vector<TraceRow> rows = read_rows(table, num_clients);
  std::sort(rows.begin(), rows.end(), [](const TraceRow& a, const TraceRow& b) {
    return std::tie(a.client, a.window.begin, a.line) < std::tie(b.client, b.window.begin, b.line);
  });
  AvailabilityTrace trace;
  trace.content_ = hash_text(text);
  trace.first_.assign(as_size(num_clients) + 1, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const TraceRow& row = rows[i];
    const bool is_next = i > 0 && rows[i - 1].client == row.client;
    if (is_next && row.window.begin < rows[i - 1].window.end) {
      table.fail(fmt::format("windows of client {} overlap: those of lines {} and {}", row.client,
                             rows[i - 1].line, row.line));
    }
    if (is_next && row.window.begin == trace.windows_.back().end) {
      trace.windows_.back().end = row.window.end;
    } else {
      trace.windows_.push_back(row.window);
    }
    trace.first_[as_size(row.client) + 1] = trace.windows_.size();
    trace.period_ = std::max(trace.period_, row.window.end);
  }
  for (std::size_t i = 1; i < trace.first_.size(); ++i) {
    trace.first_[i] = std::max(trace.first_[i], trace.first_[i - 1]);
  }
  return trace;
}

std::span<const AvailabilityWindow> AvailabilityTrace::windows(std::int64_t client) const {
  const std::size_t first = first_[as_size(client)];
  return std::span<const AvailabilityWindow>(windows_).subspan(first,
                                                               first_[as_size(client) + 1] - first);
}

}  // namespace superstep::worker
