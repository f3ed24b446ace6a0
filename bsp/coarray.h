// One array per rank that every rank may write and read remotely; sizes may differ between ranks.
//
// Construction is collective. Puts copy their elements at once and become visible after the next
// sync(), in the order of the ranks that made them; gets give what stood there when sync() began,
// before any put. Elements out of range are an InvalidArgument at the call. Cost: the bytes moved
// count into h; the messages of a superstep travel together in sync().
//
// Large ranges need not be copied (BSPlib's hpput and hpget): put_unbuffered() and get_into() move
// them at the sync() straight between the two memories. Until the sync() has returned, the source
// of an unbuffered put must not be written by anybody, nor the target of get_into() be touched.
// Unbuffered puts are written before all others of the superstep; they should be few.
//
//   Coarray<float> halo(world, n);
//   halo(world.next_rank())[0] = mine;                    // put one element
//   halo(0)[{8, 16}] = std::span<const float>(eight);     // put a range
//   Future<float> theirs = halo(0)[{0, 4}].get();
//   halo(1)[{0, n}].put_unbuffered(block);
//   world.sync();
//   use(halo.local()[0], theirs.values());
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/error.h"
#include "bsp/future.h"
#include "bsp/world.h"
#include "bsp/world_object.h"

namespace superstep::bsp {

// Half-open range of elements.
struct IndexRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

template <typename T>
class Coarray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  class Image;
  class Element;
  class Range;

  // `size` elements on this rank, zero-filled.
  Coarray(World& world, std::int64_t size, CallSite site = CallSite::here())
      : local_(size),
        object_(world, internal::ObjectKind::kCoarray, std::as_writable_bytes(local_.span()),
                sizeof(T), site) {}
  Coarray(const Coarray&) = delete;
  Coarray& operator=(const Coarray&) = delete;

  // This rank's elements; remains valid while the Coarray lives.
  std::span<T> local() { return local_.span(); }
  std::span<const T> local() const { return local_.span(); }
  std::int64_t size(int rank) const { return object_.num_elements(rank); }

  Image operator()(int rank, CallSite site = CallSite::here()) { return Image(*this, rank, site); }

  // The array of one rank.
  class Image {
   public:
    Element operator[](std::int64_t index) const {
      coarray_.object_.require_range("Coarray", rank_, index, index + 1);
      return Element(coarray_, rank_, index, site_);
    }
    Range operator[](IndexRange range) const {
      coarray_.object_.require_range("Coarray", rank_, range.begin, range.end);
      return Range(coarray_, rank_, range, site_);
    }

   private:
    friend class Coarray;
    Image(Coarray& coarray, int rank, CallSite site)
        : coarray_(coarray), rank_(rank), site_(site) {}
    Coarray& coarray_;
    int rank_;
    CallSite site_;
  };

  class Element {
   public:
    void operator=(const T& value) {  // NOLINT(misc-unconventional-assign-operator): a message
      coarray_.object_.put(rank_, index_, std::as_bytes(std::span(&value, 1)), site_);
    }
    Future<T> get() const { return Future<T>(coarray_.object_.get(rank_, index_, 1)); }

   private:
    friend class Image;
    Element(Coarray& coarray, int rank, std::int64_t index, CallSite site)
        : coarray_(coarray), rank_(rank), index_(index), site_(site) {}
    Coarray& coarray_;
    int rank_;
    std::int64_t index_;
    CallSite site_;
  };

  class Range {
   public:
    void operator=(std::span<const T> values) {  // NOLINT(misc-unconventional-assign-operator)
      require_length(values.size());
      coarray_.object_.put(rank_, range_.begin, std::as_bytes(values), site_);
    }
    void put_unbuffered(std::span<const T> values) const {
      require_length(values.size());
      coarray_.object_.put_direct(rank_, range_.begin, std::as_bytes(values), site_);
    }
    void get_into(std::span<T> values) const {
      require_length(values.size());
      coarray_.object_.get_direct(rank_, range_.begin, std::as_writable_bytes(values));
    }
    Future<T> get() const {
      return Future<T>(coarray_.object_.get(rank_, range_.begin, range_.end - range_.begin));
    }

   private:
    friend class Image;
    Range(Coarray& coarray, int rank, IndexRange range, CallSite site)
        : coarray_(coarray), rank_(rank), range_(range), site_(site) {}
    void require_length(std::size_t length) const {
      if (std::cmp_not_equal(length, range_.end - range_.begin)) {
        throw InvalidArgument("Coarray",
                              fmt::format("range and values differ in length: got {} values, "
                                          "expected {}",
                                          length, range_.end - range_.begin));
      }
    }
    Coarray& coarray_;
    int rank_;
    IndexRange range_;
    CallSite site_;
  };

 private:
  AlignedBuffer<T> local_;
  internal::WorldObject object_;
};

}  // namespace superstep::bsp
