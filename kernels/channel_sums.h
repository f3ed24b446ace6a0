// Sums in a fixed order, for statistics and bias gradients of tensors (N, C, ...).
//
// A run of elements is added in 16 lanes of the element type (lane l takes elements l, l + 16,
// ...), at most 4,096 elements before the lanes are folded in halves and added to a total in
// double. Channels of images add their planes in batch order that way; where a plane is a single
// element (N, C), a channel's elements are added in batch order in double. So bits depend on the
// shape alone: not on addresses, vector width or threads, and rounding errors stay near those of a
// sum in double.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/shape.h"

namespace superstep::kernels {

// A tensor (N, C, ...) as batch x channels x plane.
struct ChannelView {
  std::int64_t batch = 0;
  std::int64_t channels = 0;
  std::int64_t plane = 1;

  static ChannelView of(const Shape& shape) {
    ChannelView view{shape[0], shape[1], 1};
    for (int axis = 2; axis < shape.rank(); ++axis) {
      view.plane *= shape[axis];
    }
    return view;
  }

  std::int64_t count() const { return batch * plane; }  // elements of one channel
  std::int64_t offset(std::int64_t sample, std::int64_t channel) const {
    return (sample * channels + channel) * plane;
  }
  // How many channels are best worked on together: one plane after the other, or whole rows of (N,
  // C).
  std::int64_t channels_per_block() const {
    return plane == 1 ? std::max<std::int64_t>(1, channels) : 1;
  }
};

namespace internal {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kRun = 4096;  // elements between folds

template <typename T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(kLanes * sizeof(T))));
};

// values[0, count) and `fill` behind them.
template <typename T>
inline void load_lanes(const T* values, std::int64_t count, T fill,
                       typename Lanes<T>::Vector& lanes) {
  lanes = fill - typename Lanes<T>::Vector{};
  std::memcpy(&lanes, values, static_cast<std::size_t>(count) * sizeof(T));
}

template <typename T>
inline T fold_lanes(const typename Lanes<T>::Vector& lanes) {
  T values[kLanes];
  std::memcpy(values, &lanes, sizeof(values));
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) {
      values[i] += values[i + half];
    }
  }
  return values[0];
}

// accumulate(lanes, first, count) adds the terms [first, first + count) of at most 16.
template <typename T, typename Accumulate>
inline double sum_in_lanes(std::int64_t count, const Accumulate& accumulate) {
  double total = 0.0;
  for (std::int64_t begin = 0; begin < count; begin += kRun) {
    const std::int64_t end = std::min(count, begin + kRun);
    typename Lanes<T>::Vector lanes{};
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      accumulate(lanes, i, kLanes);
    }
    if (i < end) {
      accumulate(lanes, i, end - i);
    }
    total += static_cast<double>(fold_lanes<T>(lanes));
  }
  return total;
}

}  // namespace internal

// The sum of x[0, count).
template <typename T>
double fixed_order_sum(const T* x, std::int64_t count) {
  return internal::sum_in_lanes<T>(count, [x](auto& lanes, std::int64_t first, std::int64_t some) {
    typename internal::Lanes<T>::Vector v;
    internal::load_lanes<T>(x + first, some, T{0}, v);
    lanes += v;
  });
}

// The sum of a[i] * (x[i] - mean).
template <typename T>
double fixed_order_sum_of_products(const T* a, const T* x, T mean, std::int64_t count) {
  return internal::sum_in_lanes<T>(count, [=](auto& lanes, std::int64_t first, std::int64_t some) {
    typename internal::Lanes<T>::Vector u;
    typename internal::Lanes<T>::Vector v;
    internal::load_lanes<T>(a + first, some, T{0}, u);
    internal::load_lanes<T>(x + first, some, mean, v);
    lanes += u * (v - mean);
  });
}

// The sum of (x[i] - mean)^2.
template <typename T>
double fixed_order_sum_of_squares(const T* x, T mean, std::int64_t count) {
  return internal::sum_in_lanes<T>(count, [=](auto& lanes, std::int64_t first, std::int64_t some) {
    typename internal::Lanes<T>::Vector v;
    internal::load_lanes<T>(x + first, some, mean, v);
    v -= mean;
    lanes += v * v;
  });
}

// The three per channel, for the channels [first, first + some) of a view, into sums[0, some).
template <typename T>
void channel_sums(const ChannelView& view, std::int64_t first, std::int64_t some, const T* x,
                  double* sums) {
  std::fill(sums, sums + some, 0.0);
  for (std::int64_t n = 0; n < view.batch; ++n) {
    const T* row = x + view.offset(n, first);
    for (std::int64_t c = 0; c < some; ++c) {
      sums[c] += view.plane == 1 ? static_cast<double>(row[c])
                                 : fixed_order_sum(row + c * view.plane, view.plane);
    }
  }
}

template <typename T>
void channel_sums_of_products(const ChannelView& view, std::int64_t first, std::int64_t some,
                              const T* a, const T* x, const T* mean, double* sums) {
  std::fill(sums, sums + some, 0.0);
  for (std::int64_t n = 0; n < view.batch; ++n) {
    const T* left = a + view.offset(n, first);
    const T* right = x + view.offset(n, first);
    for (std::int64_t c = 0; c < some; ++c) {
      sums[c] += view.plane == 1
                     ? static_cast<double>(left[c] * (right[c] - mean[c]))
                     : fixed_order_sum_of_products(left + c * view.plane, right + c * view.plane,
                                                   mean[c], view.plane);
    }
  }
}

template <typename T>
void channel_sums_of_squares(const ChannelView& view, std::int64_t first, std::int64_t some,
                             const T* x, const T* mean, double* sums) {
  std::fill(sums, sums + some, 0.0);
  for (std::int64_t n = 0; n < view.batch; ++n) {
    const T* row = x + view.offset(n, first);
    for (std::int64_t c = 0; c < some; ++c) {
      sums[c] += view.plane == 1
                     ? static_cast<double>((row[c] - mean[c]) * (row[c] - mean[c]))
                     : fixed_order_sum_of_squares(row + c * view.plane, mean[c], view.plane);
    }
  }
}

}  // namespace superstep::kernels
