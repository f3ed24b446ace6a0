// A value that all ranks add to in one superstep and read in the next (Pregel's and Hama's
// aggregator): a reduction that travels with the messages of sync() instead of a superstep of its
// own.
//
// Construction is collective. A rank combines what it adds in the order added; over ranks values
// are combined along the fixed tree (bsp/slot_tree.h), so that all ranks see the same bits. Ranks
// that added nothing are left out. Cost: sizeof(T) + 24 bytes of h to every other rank; no
// superstep. Contributions do not keep a job alive whose ranks all voted to halt.
//
//   Aggregator<double> residual(world);                       // std::plus
//   residual.add(mine);
//   world.sync();
//   if (residual.value() < tolerance) world.vote_to_halt();   // of the superstep that just ended
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/check.h"
#include "bsp/slot_tree.h"
#include "bsp/world.h"
#include "bsp/world_object.h"

namespace superstep::bsp {

// The larger or smaller one, for Aggregator and CombiningQueue.
struct Maximum {
  template <typename T>
  T operator()(const T& left, const T& right) const {
    return left < right ? right : left;
  }
};
struct Minimum {
  template <typename T>
  T operator()(const T& left, const T& right) const {
    return right < left ? right : left;
  }
};

template <typename T, typename Combine = std::plus<T>>
class Aggregator {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= alignof(std::max_align_t));

 public:
  explicit Aggregator(World& world, Combine combine = Combine{}, CallSite site = CallSite::here())
      : combine_(std::move(combine)),
        object_(world, internal::ObjectKind::kAggregator, {}, sizeof(T), site,
                {.before = [this] { send(); }, .after = [this] { receive(); }}) {}
  // The world calls back this very object.
  Aggregator(const Aggregator&) = delete;
  Aggregator& operator=(const Aggregator&) = delete;

  void add(const T& value) { mine_ = mine_ ? combine_(*mine_, value) : value; }

  // Did any rank add something in the superstep before the last sync()?
  bool has_value() const { return value_.has_value(); }
  // A failed check unless has_value().
  const T& value() const {
    SUPERSTEP_CHECK(value_.has_value(), "nothing was added in the superstep before");
    return *value_;
  }

 private:
  void send() {
    if (mine_) {
      for (int rank = 0; rank < object_.num_ranks(); ++rank) {
        object_.send_in_background(rank, std::as_bytes(std::span(&*mine_, 1)));
      }
      mine_.reset();
    }
  }

  void receive() {
    std::vector<std::optional<T>> by_rank(static_cast<std::size_t>(object_.num_ranks()));
    for (const internal::ReceivedMessage& message : object_.received()) {
      by_rank[static_cast<std::size_t>(message.source)] =
          *reinterpret_cast<const T*>(message.bytes.data());
    }
    value_ = sum_of({0, object_.num_ranks()}, by_rank);
  }

  std::optional<T> sum_of(SlotRange ranks, std::span<const std::optional<T>> by_rank) const {
    if (ranks.length() == 1) {
      return by_rank[static_cast<std::size_t>(ranks.begin)];
    }
    const int middle = split_point(ranks);
    const std::optional<T> left = sum_of({ranks.begin, middle}, by_rank);
    const std::optional<T> right = sum_of({middle, ranks.end}, by_rank);
    return left && right ? combine_(*left, *right) : (left ? left : right);
  }

  Combine combine_;
  std::optional<T> mine_;
  std::optional<T> value_;
  internal::WorldObject object_;
};

}  // namespace superstep::bsp
