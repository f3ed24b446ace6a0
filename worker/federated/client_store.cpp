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

// Files below `root`, and all their names.
void make_durable(const fs::path& root, const std::set<fs::path>& written) {
  std::set<fs::path> directories;
  for (const fs::path& path : written) {
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
    const fs::path absolute = fs::absolute(root);
    fsync_directory(absolute);
    fsync_directory(absolute.parent_path());
    fsync_directory(absolute.parent_path().parent_path());
  }
}

}  // namespace

ClientStore::ClientStore(fs::path root, std::int64_t num_elements, std::int64_t round)
    : root_(std::move(root)), num_elements_(num_elements), kept_up_to_(round), newest_(round) {
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
  unflushed_.insert(path);
}

// A checkpoint is about to ask for what was noted by now.
ClientStore::Flush ClientStore::take_unflushed() {
  kept_up_to_ = std::max(kept_up_to_, newest_);
  return [root = root_, written = std::exchange(unflushed_, {})] { make_durable(root, written); };
}

void ClientStore::note(std::int64_t client, std::int64_t version) {
  std::vector<std::int64_t>& versions = versions_[client];
  if (!versions.empty() && versions.back() > kept_up_to_ && versions.back() != version) {
    discard(client, versions.back());
    versions.pop_back();
  }
  versions.push_back(version);
  newest_ = std::max(newest_, version);
}

void ClientStore::discard(std::int64_t client, std::int64_t version) {
  const fs::path path = path_of(client, version);
  if (unflushed_.erase(path) > 0) {
    std::error_code ignored;
    fs::remove(path, ignored);
  }
}

std::string ClientStore::describe() const {
  Hasher hasher;
  for (const auto& [client, versions] : versions_) {
    hasher.update_integer(client);
    hasher.update_integer(versions.back());
  }
  return fmt::format("{} clients, {}", num_touched(), to_text(hasher.digest()));
}

void ClientStore::require_contents(const std::string& expected) const {
  if (const std::string got = describe(); got != expected) {
    throw DataError("ClientStore", root_.string(), -1,
                    fmt::format("the states of clients are not those of the checkpoint: got {}, "
                                "expected {}. Every rank must see the directory \"clients\" of the "
                                "run, whole",
                                got, expected),
                    ExitCode::kBadCheckpoint);
  }
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
