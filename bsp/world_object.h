// The untyped core of Var, Coarray and Queue: an object of which every rank of a world has a part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "bsp/call_site.h"
#include "bsp/future.h"
#include "bsp/world.h"

namespace superstep::bsp::internal {

enum class ObjectKind : std::uint8_t { kVar, kCoarray, kQueue, kAggregator, kCombiningQueue };

// What an object does at a sync(), on its rank's thread: `before` may send, `after` sees what came.
struct SyncHooks {
  std::function<void()> before;
  std::function<void()> after;
};

struct ReceivedMessage {
  int source = 0;
  std::span<const std::byte> bytes;  // aligned for every fundamental type
};

class WorldObject {
 public:
  // Collective. The world and `memory` (this rank's elements) must outlive the object.
  WorldObject(World& world, ObjectKind kind, std::span<std::byte> memory, std::size_t element_bytes,
              CallSite site, SyncHooks hooks = {});
  WorldObject(const WorldObject&) = delete;
  WorldObject& operator=(const WorldObject&) = delete;
  ~WorldObject();

  // Offsets and counts in elements, checked by require_range before.
  void put(int rank, std::int64_t offset, std::span<const std::byte> bytes, CallSite site);
  void put_direct(int rank, std::int64_t offset, std::span<const std::byte> bytes, CallSite site);
  std::shared_ptr<const GetAnswer> get(int rank, std::int64_t offset, std::int64_t count);
  void get_direct(int rank, std::int64_t offset, std::span<std::byte> into);
  void send(int rank, std::span<const std::byte> bytes);
  void send_in_background(int rank, std::span<const std::byte> bytes);  // Activity::kBackground

  std::span<const ReceivedMessage> received() const;
  int num_ranks() const;
  std::int64_t num_elements(int rank) const;
  // Throws InvalidArgument unless `rank` exists and has elements [begin, end).
  void require_range(std::string_view where, int rank, std::int64_t begin, std::int64_t end) const;

 private:
  class Part;

  std::unique_ptr<Part> part_;
};

}  // namespace superstep::bsp::internal
