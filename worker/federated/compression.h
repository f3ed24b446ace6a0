// Lossy compression of a client's update, with the bytes it would take on the wire.
//
//   qsgd      stochastic rounding to `levels` steps of the norm, in buckets of 512 (Alistarh et al.
//             2017); unbiased
//   top_k     the k largest elements (Aji and Heafield 2017); biased, wants error feedback
//   random_k  k random elements, times size / k (Konecny et al. 2016); unbiased
//   sign      signs, times the mean absolute value (Seide et al. 2014, Karimireddy et al. 2019);
//             sign(0) = 0: where there are zeros, one more bit per element tells them apart.
//             Biased, wants error feedback
//   rotation  random rotation, then stochastic rounding to 2^bits values between the extremes
//             (Suresh et al. 2017); unbiased
//
// Error feedback adds what the last compression of the same client left out; it is client state. It
// converges for contractions (top_k, sign, random_k, which is not scaled up then) and diverges for
// the unbiased roundings (Karimireddy et al. 2019), so runs refuse it for those.
// All randomness is keyed by (seed, client, round). Bytes are those of a plain encoding: indices of
// 4 bytes, fields of fixed width, no entropy coding; a random choice costs its 8-byte seed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/philox.h"

namespace superstep::worker {

enum class CompressionKind : std::uint8_t { kNone, kQsgd, kTopK, kRandomK, kSign, kRotation };
std::string_view name_of(CompressionKind kind);

enum class ErrorFeedback : std::uint8_t { kOff, kOn };

struct CompressionOptions {
  CompressionKind kind = CompressionKind::kNone;
  double keep = 0.01;  // kTopK, kRandomK: part of the elements, at least one
  int levels = 16;     // kQsgd
  int bits = 4;        // kRotation: 1 to 16
  ErrorFeedback error_feedback = ErrorFeedback::kOff;
};

// Throws InvalidArgument that names the field.
void validate(const CompressionOptions& options);

// The most that decoding multiplies an element of an update of `size` elements by: size / k where
// random_k scales up. The other kinds stay within the norm of a bucket.
double scale_of_decoding(const CompressionOptions& options, std::int64_t size);

// Replaces the update by what the receiver would decode and returns the bytes on the wire.
std::int64_t compress(const CompressionOptions& options, const PhiloxStream& stream,
                      std::span<float> update);

}  // namespace superstep::worker
