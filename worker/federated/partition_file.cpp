#include "worker/federated/partition_file.h"

#include <map>
#include <vector>

#include <fmt/format.h>

#include "base/file.h"
#include "base/hash.h"
#include "worker/federated/tab_separated.h"

namespace superstep::worker {

namespace {

constexpr std::int64_t kMaxPartitionBytes = std::int64_t{1} << 32;

class PartitionReader {
 public:
  explicit PartitionReader(std::int64_t num_samples)
      : owner_(static_cast<std::size_t>(num_samples), -1) {}

  void read(TabSeparated& rows, const std::string& client_column) {
    const std::size_t index = rows.column("index");
    const std::size_t client = rows.column(client_column);
    while (rows.next()) {
      read_row(rows, index, client);
    }
    if (clients_.empty()) {
      rows.fail("no sample is listed: expected at least one line after the header");
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
  void read_row(const TabSeparated& rows, std::size_t index_column, std::size_t client_column) {
    const std::int64_t sample =
        rows.integer(index_column, 0, static_cast<std::int64_t>(owner_.size()) - 1);
    const std::string client(rows.cell(client_column));
    if (client.empty()) {
      rows.fail("the client is empty");
    }
    const auto [entry, is_new] =
        numbers_.emplace(client, static_cast<std::int64_t>(clients_.size()));
    if (is_new) {
      clients_.emplace_back();
      names_.push_back(client);
    }
    std::int64_t& owner = owner_[static_cast<std::size_t>(sample)];
    if (owner >= 0) {
      rows.fail(
          fmt::format("sample {} is given twice: to client \"{}\" here, on an earlier line to {} "
                      "client",
                      sample, client, owner == entry->second ? "the same" : "another"));
    }
    owner = entry->second;
    clients_[static_cast<std::size_t>(entry->second)].push_back(static_cast<std::uint32_t>(sample));
  }

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
  const std::string text = read_text_file(file, kMaxPartitionBytes);
  TabSeparated rows("read_partition", text, file);
  PartitionReader reader(num_samples);
  reader.read(rows, client_column);
  return {.index = reader.finish(), .name_hashes = reader.name_hashes()};
}

ClientIndex parse_partition(std::string_view text, const std::filesystem::path& file,
                            std::int64_t num_samples, const std::string& client_column) {
  TabSeparated rows("read_partition", text, file);
  PartitionReader reader(num_samples);
  reader.read(rows, client_column);
  return reader.finish();
}

}  // namespace superstep::worker
