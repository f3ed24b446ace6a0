#include "worker/federated/partition_file.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace superstep::worker {

namespace {

constexpr std::int64_t kMaxPartitionBytes = std::int64_t{1} << 32;

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

class PartitionReader {
 public:
  PartitionReader(const std::filesystem::path& file, std::int64_t num_samples)
      : file_(file.string()), owner_(static_cast<std::size_t>(num_samples), -1) {}

  void read(std::string_view text, const std::string& client_column) {
    read_header(next_line(text), client_column);
    while (!text.empty()) {
      const std::string_view line = next_line(text);
      if (!line.empty()) {
        read_row(line);
      }
    }
    if (clients_.empty()) {
      fail("no sample is listed: expected at least one line after the header");
    }
  }

  ClientIndex finish() const {
    ClientIndex index(static_cast<std::int64_t>(owner_.size()));
    for (std::size_t client = 0; client < clients_.size(); ++client) {
      index.add(clients_[client], names_[client]);
    }
    return index;
  }

  std::vector<std::uint64_t> name_hashes() const {
    std::vector<std::uint64_t> hashes(clients_.size());
    for (const auto& [name, client] : numbers_) {
      hashes[static_cast<std::size_t>(client)] = hash_text(name).low;
    }
    return hashes;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError("read_partition", file_, -1, fmt::format("line {}: {}", line_, what));
  }

  std::string_view next_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') {
      line.remove_suffix(1);
    }
    ++line_;
    return line;
  }

  std::size_t column(const std::vector<std::string_view>& names, std::string_view wanted) const {
    const auto found = std::find(names.begin(), names.end(), wanted);
    if (found == names.end()) {
      fail(fmt::format("no column '{}': got {}, expected a header that names it", wanted,
                       fmt::join(names, ", ")));
    }
    return static_cast<std::size_t>(found - names.begin());
  }

  void read_header(std::string_view line, const std::string& client_column) {
    const std::vector<std::string_view> names = cells_of(line);
    num_columns_ = names.size();
    index_column_ = column(names, "index");
    client_column_ = column(names, client_column);
  }

  void read_row(std::string_view line) {
    const std::vector<std::string_view> cells = cells_of(line);
    if (cells.size() != num_columns_) {
      fail(fmt::format("cells: got {}, expected {}", cells.size(), num_columns_));
    }
    const std::string_view text = cells[index_column_];
    std::int64_t sample = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), sample);
    if (error != std::errc() || end != text.data() + text.size() || sample < 0 ||
        sample >= static_cast<std::int64_t>(owner_.size())) {
      fail(fmt::format("index: got \"{}\", expected 0 to {}", text, owner_.size() - 1));
    }
    const std::string client(cells[client_column_]);
    if (client.empty()) {
      fail("the client is empty");
    }
    const auto [entry, is_new] =
        numbers_.emplace(client, static_cast<std::int64_t>(clients_.size()));
    if (is_new) {
      clients_.emplace_back();
      names_.push_back(client);
    }
    std::int64_t& owner = owner_[static_cast<std::size_t>(sample)];
    if (owner >= 0) {
      fail(
          fmt::format("sample {} is given twice: to client \"{}\" here, on an earlier line to {} "
                      "client",
                      sample, client, owner == entry->second ? "the same" : "another"));
    }
    owner = entry->second;
    clients_[static_cast<std::size_t>(entry->second)].push_back(static_cast<std::uint32_t>(sample));
  }

  std::string file_;
  std::int64_t line_ = 0;
  std::size_t num_columns_ = 0;
  std::size_t index_column_ = 0;
  std::size_t client_column_ = 0;
  std::vector<std::int64_t> owner_;  // by sample
  std::map<std::string, std::int64_t> numbers_;
  std::vector<std::vector<std::uint32_t>> clients_;
  std::vector<std::string> names_;
};

}  // namespace

ClientIndex read_partition(const std::filesystem::path& file, std::int64_t num_samples,
                           const std::string& client_column) {
  return parse_partition(read_text_file(file, kMaxPartitionBytes), file, num_samples,
                         client_column);
}

NamedPartition read_named_partition(const std::filesystem::path& file, std::int64_t num_samples,
                                    const std::string& client_column) {
  PartitionReader reader(file, num_samples);
  reader.read(read_text_file(file, kMaxPartitionBytes), client_column);
  return {.index = reader.finish(), .name_hashes = reader.name_hashes()};
}

ClientIndex parse_partition(std::string_view text, const std::filesystem::path& file,
                            std::int64_t num_samples, const std::string& client_column) {
  PartitionReader reader(file, num_samples);
  reader.read(text, client_column);
  return reader.finish();
}

}  // namespace superstep::worker
