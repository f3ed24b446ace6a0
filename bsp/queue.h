// Messages between ranks: sent in one superstep, received in the next.
//
// Construction is collective. A message is one value or a span of values, copied at the call. After
// sync() the queue holds the messages that came, ordered by source rank and, from one rank, in the
// order sent; the next sync() discards them. Cost: the bytes sent count into h; the messages of a
// superstep travel together in sync().
//
//   Queue<float> queue(world);
//   queue.send(0, 1.5F);
//   queue.send(1, std::span<const float>(many));
//   world.sync();
//   for (const Queue<float>::Message message : queue) {
//     use(message.source, message.values);
//   }
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "bsp/world.h"
#include "bsp/world_object.h"

namespace superstep::bsp {

template <typename T>
class Queue {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= alignof(std::max_align_t));

 public:
  // Remains valid until the next sync().
  struct Message {
    int source = 0;
    std::span<const T> values;
  };
  class Iterator;

  explicit Queue(World& world, CallSite site = CallSite::here())
      : object_(world, internal::ObjectKind::kQueue, {}, sizeof(T), site) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Throws InvalidArgument for a rank that does not exist.
  void send(int rank, const T& value) { send(rank, std::span<const T>(&value, 1)); }
  void send(int rank, std::span<const T> values) {
    object_.require_range("Queue", rank, 0, 0);
    object_.send(rank, std::as_bytes(values));
  }

  // Messages received at the last sync().
  std::int64_t size() const { return static_cast<std::int64_t>(object_.received().size()); }
  bool empty() const { return object_.received().empty(); }
  Message operator[](std::int64_t i) const {
    SUPERSTEP_CHECK(i >= 0 && i < size(), "message out of range", i, size());
    const internal::ReceivedMessage& message = object_.received()[static_cast<std::size_t>(i)];
    // The store keeps messages aligned for every element type.
    return {message.source,
            {reinterpret_cast<const T*>(message.bytes.data()), message.bytes.size() / sizeof(T)}};
  }
  Iterator begin() const { return Iterator(*this, 0); }
  Iterator end() const { return Iterator(*this, size()); }

  class Iterator {
   public:
    Iterator(const Queue& queue, std::int64_t i) : queue_(&queue), i_(i) {}
    Message operator*() const { return (*queue_)[i_]; }
    Iterator& operator++() {
      ++i_;
      return *this;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const Queue* queue_;
    std::int64_t i_;
  };

 private:
  internal::WorldObject object_;
};

}  // namespace superstep::bsp
