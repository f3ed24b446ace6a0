#include "worker/federated/client_store.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/check.h"
#include "base/error.h"
#include "base/file.h"
#include "base/file_descriptor.h"
#include "base/hash.h"

namespace superstep::worker {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kClientsPerDirectory = 1000;

std::optional<std::int64_t> number_of(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size() && value >= 0;
  return whole ? std::optional(value) : std::nullopt;
}

}  // namespace

ClientStore::ClientStore(fs::path root, std::int64_t num_elements, std::int64_t round)
    : root_(std::move(root)), num_elements_(num_elements) {
  std::error_code missing;
  for (fs::directory_iterator group(root_, missing), end; !missing && group != end; ++group) {
    if (!group->is_directory()) {
      continue;
    }
    for (const fs::directory_entry& file : fs::directory_iterator(group->path())) {
      const auto name = parse_client_state_name(file.path().filename().native());
      if (name && name->version <= round) {
        versions_[name->client].push_back(name->version);
      }
    }
  }
  for (auto& [client, versions] : versions_) {
    std::sort(versions.begin(), versions.end());
  }
}

fs::path ClientStore::path_of(std::int64_t client, std::int64_t version) const {
  return root_ / fmt::format("{:06d}", client / kClientsPerDirectory) /
         ClientStateName{.client = client, .version = version}.to_text();
}

bool ClientStore::is_touched(std::int64_t client) const {
  const auto found = versions_.find(client);
  return found != versions_.end() && !found->second.empty();
}

void ClientStore::read(std::int64_t client, std::span<float> state) const {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(state.size()) == num_elements_, "elements of a state",
                  state.size());
  if (!is_touched(client)) {
    std::fill(state.begin(), state.end(), 0.0F);
    return;
  }
  const fs::path path = path_of(client, versions_.at(client).back());
  const auto expected = static_cast<std::int64_t>(state.size_bytes() + kHashBytes);
  decode_client_state(read_file(path, expected), path, state);
}

// Whole under its name or not there: written beside it and renamed.
void ClientStore::write(std::int64_t client, std::int64_t version, std::span<const float> state) {
  const fs::path path = path_of(client, version);
  fs::path temporary = path;
  temporary += ".tmp";
  make_directories(path.parent_path());
  const std::span<const std::byte> values = std::as_bytes(state);
  const auto hash = to_bytes(hash_bytes(values));
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size()));
  file.write(reinterpret_cast<const char*>(hash.data()), static_cast<std::streamsize>(hash.size()));
  file.close();
  if (!file) {
    internal::throw_write_error("ClientStore", temporary, "write a client's state", errno, -1,
                                static_cast<std::int64_t>(values.size() + hash.size()));
  }
  fs::rename(temporary, path);
  unflushed_.push_back(path);
}

void ClientStore::flush() {
  std::set<fs::path> directories;
  for (const fs::path& path : unflushed_) {
    const internal::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.is_open() || ::fsync(file.get()) != 0) {
      internal::throw_write_error("ClientStore", path, "sync a client's state", errno);
    }
    directories.insert(path.parent_path());
  }
  for (const fs::path& directory : directories) {
    fsync_directory(directory);
  }
  // The names above them as well: whoever made those may have died before they were durable.
  if (!directories.empty()) {
    const fs::path root = fs::absolute(root_);
    fsync_directory(root);
    fsync_directory(root.parent_path());
    fsync_directory(root.parent_path().parent_path());
  }
  unflushed_.clear();
}

void ClientStore::note(std::int64_t client, std::int64_t version) {
  versions_[client].push_back(version);
}

void ClientStore::prune(std::int64_t oldest_kept, int rank, int num_ranks) {
  for (auto& [client, versions] : versions_) {
    // The last version at or before the oldest checkpoint, and everything after it, may be asked
    // for.
    auto first = std::upper_bound(versions.begin(), versions.end(), oldest_kept);
    if (first != versions.begin()) {
      --first;
    }
    for (auto version = versions.begin(); version != first; ++version) {
      if (client % num_ranks == rank) {
        std::error_code ignored;
        fs::remove(path_of(client, *version), ignored);
      }
    }
    versions.erase(versions.begin(), first);
  }
}

std::optional<ClientStateName> parse_client_state_name(std::string_view name) {
  const std::size_t dot = std::min(name.find('.'), name.size());
  const auto client = number_of(name.substr(0, dot));
  const auto version = number_of(name.substr(std::min(dot + 1, name.size())));
  if (!client || !version) {
    return std::nullopt;
  }
  const ClientStateName parsed{.client = *client, .version = *version};
  return parsed.to_text() == name ? std::optional(parsed) : std::nullopt;
}

std::string ClientStateName::to_text() const {
  return fmt::format("{}.{:08d}", client, version);
}

void decode_client_state(std::span<const std::byte> bytes, const std::filesystem::path& path,
                         std::span<float> state) {
  const std::size_t expected = state.size_bytes() + kHashBytes;
  if (bytes.size() != expected) {
    throw DataError(
        "ClientStore", path.string(), static_cast<std::int64_t>(bytes.size()),
        fmt::format("a client's state is short: got {} bytes, expected {}", bytes.size(), expected),
        ExitCode::kBadCheckpoint);
  }
  const auto values = bytes.first(state.size_bytes());
  const Hash128 stored = hash_from_bytes(bytes.last<kHashBytes>());
  if (!(hash_bytes(values) == stored)) {
    throw DataError("ClientStore", path.string(), 0,
                    fmt::format("a client's state is damaged: got {}, expected {}",
                                to_text(hash_bytes(values)), to_text(stored)),
                    ExitCode::kBadCheckpoint);
  }
  std::copy(values.begin(), values.end(), std::as_writable_bytes(state).begin());
}

}  // namespace superstep::worker
