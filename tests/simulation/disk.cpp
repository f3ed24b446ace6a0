#include "tests/simulation/disk.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "base/check.h"

namespace superstep::simulation {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kSectorBytes = 512;
constexpr std::array<double, 4> kSurvivals = {0.0, 0.3, 0.8, 1.0};

bool contains(int flags, int flag) {
  return (flags & flag) == flag;
}

}  // namespace

// A write or a new size that was not synced, or names that change together.
struct Disk::Change {
  std::size_t offset = 0;
  std::string bytes;
  std::optional<std::size_t> size;
  std::vector<std::pair<std::string, NodePointer>> names;  // null: gone
};

struct Disk::Node {
  ino_t number = 0;
  mode_t type = S_IFREG;
  std::string name;  // that it was made with
  std::string bytes;
  std::string durable_bytes;
  std::map<std::string, NodePointer> entries;
  std::map<std::string, NodePointer> durable_entries;
  std::vector<Change> unsynced;

  bool is_directory() const { return type == S_IFDIR; }
  void set(std::vector<std::pair<std::string, NodePointer>> names) {
    apply(names, entries);
    unsynced.push_back({.offset = 0, .bytes = {}, .size = {}, .names = std::move(names)});
  }
  static void apply(const std::vector<std::pair<std::string, NodePointer>>& names,
                    std::map<std::string, NodePointer>& to) {
    for (const auto& [name, node] : names) {
      if (node == nullptr) {
        to.erase(name);
      } else {
        to[name] = node;
      }
    }
  }
};

struct Disk::Place {
  NodePointer directory;
  std::string name;
};

Disk::Disk(std::uint64_t seed)
    : random_(seed, stream_id("simulation/disk")), root_(make_node("", S_IFDIR)) {}
Disk::~Disk() = default;

Disk::NodePointer Disk::make_node(std::string name, mode_t type) {
  auto node = std::make_shared<Node>();
  node->number = next_number_++;
  node->type = type;
  node->name = std::move(name);
  return node;
}

void Disk::fail_after(std::int64_t calls, int error_number) {
  calls_until_failure_ = calls;
  error_number_ = error_number;
}

// The error of a call that is to fail; 0: none.
int Disk::failure() {
  if (calls_until_failure_ < 0 || calls_until_failure_-- > 0) {
    return 0;
  }
  return -error_number_;
}

Disk::NodePointer Disk::find(int directory, const fs::path& path) const {
  NodePointer node = root_;
  if (path.is_relative()) {
    const auto found = open_.find(directory);
    if (found == open_.end()) {
      return nullptr;
    }
    node = found->second.node;
  }
  for (const fs::path& part : path.relative_path()) {
    if (part.empty() || part == ".") {
      continue;
    }
    const auto next = node->entries.find(part.native());
    if (next == node->entries.end()) {
      return nullptr;
    }
    node = next->second;
  }
  return node;
}

std::optional<Disk::Place> Disk::parent_of(int directory, const fs::path& path) const {
  NodePointer parent = find(directory, path.parent_path());
  if (parent == nullptr || !parent->is_directory()) {
    return std::nullopt;
  }
  return Place{std::move(parent), path.filename().native()};
}

Disk::Node* Disk::node_of(int descriptor) const {
  const auto found = open_.find(descriptor);
  return found == open_.end() ? nullptr : found->second.node.get();
}

int Disk::add_descriptor(NodePointer node) {
  open_[next_descriptor_] = {.node = std::move(node), .position = 0};
  return next_descriptor_++;
}

int Disk::open(int directory, const fs::path& path, int flags) {
  NodePointer node = find(directory, path);
  if (node != nullptr && contains(flags, O_CREAT | O_EXCL)) {
    return -EEXIST;
  }
  if (node == nullptr) {
    const std::optional<Place> place = parent_of(directory, path);
    if (!place.has_value() || !contains(flags, O_CREAT)) {
      return -ENOENT;
    }
    if (const int error = failure(); error != 0) {
      return error;
    }
    node = make_node(place->name, S_IFREG);
    place->directory->set({{place->name, node}});
  }
  if (contains(flags, O_DIRECTORY) && !node->is_directory()) {
    return -ENOTDIR;
  }
  const int descriptor = add_descriptor(std::move(node));
  if (contains(flags, O_TRUNC)) {
    if (const int error = resize(descriptor, 0); error != 0) {
      close(descriptor);
      return error;
    }
  }
  return descriptor;
}

int Disk::close(int descriptor) {
  return open_.erase(descriptor) == 1 ? 0 : -EBADF;
}

std::int64_t Disk::read(int descriptor, std::int64_t offset, std::byte* bytes,
                        std::size_t count) const {
  const Node* node = node_of(descriptor);
  if (node == nullptr || node->is_directory()) {
    return node == nullptr ? -EBADF : -EISDIR;
  }
  const auto begin = std::min(static_cast<std::size_t>(offset), node->bytes.size());
  count = std::min(count, node->bytes.size() - begin);
  std::memcpy(bytes, node->bytes.data() + begin, count);
  return static_cast<std::int64_t>(count);
}

std::int64_t Disk::write(int descriptor, std::int64_t offset, const std::byte* bytes,
                         std::size_t count) {
  Node* node = node_of(descriptor);
  if (node == nullptr) {
    return -EBADF;
  }
  if (const int error = failure(); error != 0) {
    return error;
  }
  // The system writes less than it was asked to when it likes.
  if (count > kSectorBytes && random_.below(4) == 0) {
    count = kSectorBytes * (1 + random_.below(count / kSectorBytes));
  }
  const auto begin = static_cast<std::size_t>(offset);
  node->bytes.resize(std::max(node->bytes.size(), begin + count));
  std::memcpy(node->bytes.data() + begin, bytes, count);
  node->unsynced.push_back({.offset = begin,
                            .bytes = std::string(reinterpret_cast<const char*>(bytes), count),
                            .size = {},
                            .names = {}});
  return static_cast<std::int64_t>(count);
}

std::int64_t Disk::read_next(int descriptor, std::byte* bytes, std::size_t count) {
  const auto file = open_.find(descriptor);
  if (file == open_.end()) {
    return -EBADF;
  }
  const std::int64_t done = read(descriptor, file->second.position, bytes, count);
  file->second.position += std::max<std::int64_t>(done, 0);
  return done;
}

std::int64_t Disk::write_next(int descriptor, const std::byte* bytes, std::size_t count) {
  const auto file = open_.find(descriptor);
  if (file == open_.end()) {
    return -EBADF;
  }
  const std::int64_t done = write(descriptor, file->second.position, bytes, count);
  file->second.position += std::max<std::int64_t>(done, 0);
  return done;
}

int Disk::resize(int descriptor, std::int64_t num_bytes) {
  Node* node = node_of(descriptor);
  if (node == nullptr) {
    return -EBADF;
  }
  if (const int error = failure(); error != 0) {
    return error;
  }
  const auto size = static_cast<std::size_t>(num_bytes);
  node->bytes.resize(size);
  node->unsynced.push_back({.offset = 0, .bytes = {}, .size = size, .names = {}});
  return 0;
}

int Disk::reserve(int descriptor, std::int64_t num_bytes) {
  const Node* node = node_of(descriptor);
  if (node == nullptr) {
    return -EBADF;
  }
  return std::cmp_less(node->bytes.size(), num_bytes) ? resize(descriptor, num_bytes) : failure();
}

int Disk::sync(int descriptor) {
  Node* node = node_of(descriptor);
  if (node == nullptr) {
    return -EBADF;
  }
  if (const int error = failure(); error != 0) {
    return error;
  }
  const bool is_manifest = node->name == "MANIFEST";
  const bool ignored = node->is_directory()
                           ? flaw_ == DiskFlaw::kNamesAreNotSynced
                           : flaw_ == DiskFlaw::kFilesAreNotSynced ||
                                 (flaw_ == DiskFlaw::kShardsAreNotSynced && !is_manifest);
  if (!ignored) {
    node->durable_bytes = node->bytes;
    node->durable_entries = node->entries;
    node->unsynced.clear();
  }
  return 0;
}

int Disk::make_directory(const fs::path& path) {
  if (find(-1, path) != nullptr) {
    return -EEXIST;
  }
  const std::optional<Place> place = parent_of(-1, path);
  if (!place.has_value()) {
    return -ENOENT;
  }
  if (const int error = failure(); error != 0) {
    return error;
  }
  place->directory->set({{place->name, make_node(place->name, S_IFDIR)}});
  return 0;
}

int Disk::rename(const fs::path& from, const fs::path& to) {
  const NodePointer node = find(-1, from);
  const std::optional<Place> source = parent_of(-1, from);
  const std::optional<Place> target = parent_of(-1, to);
  if (node == nullptr || !source.has_value() || !target.has_value()) {
    return -ENOENT;
  }
  const NodePointer there = find(-1, to);
  if (there != nullptr && there->is_directory() != node->is_directory()) {
    return node->is_directory() ? -ENOTDIR : -EISDIR;
  }
  if (there != nullptr && !there->entries.empty()) {
    return -ENOTEMPTY;
  }
  if (const int error = failure(); error != 0) {
    return error;
  }
  if (source->directory == target->directory) {
    source->directory->set({{source->name, nullptr}, {target->name, node}});
  } else {
    source->directory->set({{source->name, nullptr}});
    target->directory->set({{target->name, node}});
  }
  return 0;
}

int Disk::unlink(int directory, const fs::path& path, int flags) {
  const NodePointer node = find(directory, path);
  const std::optional<Place> place = parent_of(directory, path);
  if (node == nullptr || !place.has_value()) {
    return -ENOENT;
  }
  const bool remove_directory = contains(flags, AT_REMOVEDIR);
  if (node->is_directory() != remove_directory) {
    return remove_directory ? -ENOTDIR : -EISDIR;
  }
  if (!node->entries.empty()) {
    return -ENOTEMPTY;
  }
  if (const int error = failure(); error != 0) {
    return error;
  }
  place->directory->set({{place->name, nullptr}});
  return 0;
}

int Disk::status(int directory, const fs::path& path, struct stat* status) const {
  const NodePointer node = find(directory, path);
  if (node == nullptr) {
    return -ENOENT;
  }
  *status = {};
  status->st_ino = node->number;
  status->st_mode = node->type | 0777;
  status->st_nlink = 1;
  status->st_size = static_cast<off_t>(node->bytes.size());
  return 0;
}

int Disk::status(int descriptor, struct stat* out) const {
  return node_of(descriptor) == nullptr ? -EBADF : status(descriptor, ".", out);
}

std::vector<std::string> Disk::names(int descriptor) const {
  std::vector<std::string> names;
  for (const auto& [name, node] : node_of(descriptor)->entries) {
    names.push_back(name);
  }
  return names;
}

void Disk::close_all() {
  open_.clear();
}

void Disk::lose_power() {
  close_all();
  survival_ = kSurvivals[random_.below(kSurvivals.size())];
  settle(*root_);
}

void Disk::settle(Node& node) {
  if (!node.is_directory()) {
    settle_bytes(node);
    return;
  }
  for (const Change& change : node.unsynced) {
    if (random_.uniform_double() < survival_) {
      Node::apply(change.names, node.durable_entries);
    }
  }
  node.entries = node.durable_entries;
  node.unsynced.clear();
  for (const auto& [name, child] : node.entries) {
    settle(*child);
  }
}

void Disk::settle_bytes(Node& node) {
  std::string& kept = node.durable_bytes;
  for (const Change& change : node.unsynced) {
    if (random_.uniform_double() >= survival_) {
      continue;
    }
    if (change.size.has_value()) {
      kept.resize(*change.size);
      continue;
    }
    std::size_t count = change.bytes.size();
    if (random_.below(2) == 0) {  // torn between two sectors
      count = std::min(count, kSectorBytes * random_.below(count / kSectorBytes + 1));
    }
    kept.resize(std::max(kept.size(), change.offset + count));
    kept.replace(change.offset, count, change.bytes, 0, count);
  }
  node.bytes = kept;
  node.unsynced.clear();
}

}  // namespace superstep::simulation
