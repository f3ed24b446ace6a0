// One value per rank that every rank may write and read remotely.
//
// Construction is collective. Remote writes copy the value at once and become visible after the
// next sync(); remote reads give the value that stood there when sync() began, before any write.
// When several ranks write one Var, the highest rank wins. Cost: sizeof(T) bytes of h per access;
// the messages of a superstep travel together in sync().
//
//   Var<int> x(world, 0);
//   x(world.next_rank()) = world.rank();
//   Future<int> before = x(0).get();
//   world.sync();                            // *x is the rank before; before.value() == 0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "bsp/future.h"
#include "bsp/world.h"
#include "bsp/world_object.h"

namespace superstep::bsp {

template <typename T>
class Var {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  class Remote;

  explicit Var(World& world, const T& value = T{}, CallSite site = CallSite::here())
      : value_(value),
        object_(world, internal::ObjectKind::kVar, std::as_writable_bytes(std::span(&value_, 1)),
                sizeof(T), site) {}
  // Remote ranks refer to this very object.
  Var(const Var&) = delete;
  Var& operator=(const Var&) = delete;

  // This rank's value.
  T& operator*() { return value_; }
  const T& operator*() const { return value_; }

  // The value of `rank`; throws InvalidArgument for a rank that does not exist.
  Remote operator()(int rank, CallSite site = CallSite::here()) {
    object_.require_range("Var", rank, 0, 1);
    return Remote(*this, rank, site);
  }

  class Remote {
   public:
    void operator=(const T& value) {  // NOLINT(misc-unconventional-assign-operator): a message
      var_.object_.put(rank_, 0, std::as_bytes(std::span(&value, 1)), site_);
    }
    Future<T> get() const { return Future<T>(var_.object_.get(rank_, 0, 1)); }

   private:
    friend class Var;
    Remote(Var& var, int rank, CallSite site) : var_(var), rank_(rank), site_(site) {}
    Var& var_;
    int rank_;
    CallSite site_;
  };

 private:
  T value_;
  internal::WorldObject object_;
};

}  // namespace superstep::bsp
