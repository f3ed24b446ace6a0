// Messages to keys of other ranks, combined on the way (Pregel's combiner): of all values sent to
// one key of one rank, one arrives.
//
// Construction is collective. Values from one rank to one key are combined in the order sent,
// before they travel; what arrives from several ranks is combined in rank order. After sync() the
// queue holds one entry per key, ascending; the next sync() discards them. Cost: sizeof(Entry)
// bytes of h per different key and destination, sorting of what was sent and of what came (w).
//
//   CombiningQueue<double> rank_mass(world);                  // std::plus
//   rank_mass.send(owner, vertex, share);
//   world.sync();
//   for (const auto& [vertex, mass] : rank_mass) { ... }
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "bsp/world.h"
#include "bsp/world_object.h"

namespace superstep::bsp {

// Sorts by key and leaves one entry per key: its values combined in the order they had.
template <typename Entry, typename Combine>
void combine_by_key(std::vector<Entry>& entries, const Combine& combine) {
  const auto by_key = [](const Entry& a, const Entry& b) { return a.key < b.key; };
  if (!std::is_sorted(entries.begin(), entries.end(), by_key)) {
    std::stable_sort(entries.begin(), entries.end(), by_key);
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (kept > 0 && entries[kept - 1].key == entries[i].key) {
      entries[kept - 1].value = combine(entries[kept - 1].value, entries[i].value);
    } else {
      entries[kept++] = entries[i];
    }
  }
  entries.resize(kept);
}

template <typename T, typename Combine = std::plus<T>, std::integral Key = std::int64_t>
class CombiningQueue {
 public:
  struct Entry {
    Key key{};
    T value{};
  };
  static_assert(std::is_trivially_copyable_v<Entry> && alignof(Entry) <= alignof(std::max_align_t));

  explicit CombiningQueue(World& world, Combine combine = Combine{},
                          CallSite site = CallSite::here())
      : combine_(std::move(combine)),
        outgoing_(static_cast<std::size_t>(world.size())),
        object_(world, internal::ObjectKind::kCombiningQueue, {}, sizeof(Entry), site,
                {.before = [this] { send_all(); }, .after = [this] { receive(); }}) {}
  // The world calls back this very object.
  CombiningQueue(const CombiningQueue&) = delete;
  CombiningQueue& operator=(const CombiningQueue&) = delete;

  // Throws InvalidArgument for a rank that does not exist.
  void send(int rank, Key key, const T& value) {
    object_.require_range("CombiningQueue", rank, 0, 0);
    outgoing_[static_cast<std::size_t>(rank)].push_back({key, value});
  }

  // What came at the last sync(); remains valid until the next one.
  std::int64_t size() const { return static_cast<std::int64_t>(received_.size()); }
  bool empty() const { return received_.empty(); }
  auto begin() const { return received_.begin(); }
  auto end() const { return received_.end(); }

 private:
  void send_all() {
    for (std::size_t i = 0; i < outgoing_.size(); ++i) {
      if (!outgoing_[i].empty()) {
        combine_by_key(outgoing_[i], combine_);
        object_.send(static_cast<int>(i), std::as_bytes(std::span(outgoing_[i])));
        outgoing_[i].clear();
      }
    }
  }

  void receive() {
    received_.clear();
    for (const internal::ReceivedMessage& message : object_.received()) {
      const auto* entries = reinterpret_cast<const Entry*>(message.bytes.data());
      received_.insert(received_.end(), entries, entries + message.bytes.size() / sizeof(Entry));
    }
    combine_by_key(received_, combine_);
  }

  Combine combine_;
  std::vector<std::vector<Entry>> outgoing_;  // by rank
  std::vector<Entry> received_;
  internal::WorldObject object_;
};

}  // namespace superstep::bsp
