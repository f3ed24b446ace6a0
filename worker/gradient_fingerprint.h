// What remains of a gradient when its memory is used for the next one: enough to say that two
// gradients differ, and where.
//
//   GradientFingerprint mine = fingerprint_of(layout, gradient, summaries);
//   if (mine.hash != theirs.hash) first_difference(layout, theirs, their_second, gradient);
//
// A hash of 64 bits for every line of up to 64 elements of an entry, and XXH3-128 over these and
// the sums of the slots; padding counts for nothing. For n elements: 8 bytes per line (n / 8 bytes)
// and one pass over the gradient.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "paramserver/layout.h"
#include "paramserver/server.h"

namespace superstep::worker {

struct GradientFingerprint {
  std::vector<std::uint64_t> lines;
  Hash128 hash;
};

std::int64_t num_fingerprint_lines(const paramserver::ParameterLayout& layout);

GradientFingerprint fingerprint_of(const paramserver::ParameterLayout& layout,
                                   std::span<const float> gradient,
                                   std::span<const paramserver::SlotSummary> summaries);

struct GradientDifference {
  std::string entry = {};
  std::int64_t first = 0;  // the element; the line's elements when it is not known
  std::int64_t last = 0;
  std::optional<float> theirs = {};  // not known: see first_difference
  float ours = 0.0F;                 // of element `first`
};

// The first element that differs between a gradient of which only `their_lines` is left, and
// `ours`; none when all lines are the same. Their value is known when their second try has that
// line (`their_second`), or when a single bit of a single element makes the difference.
std::optional<GradientDifference> first_difference(const paramserver::ParameterLayout& layout,
                                                   std::span<const std::uint64_t> their_lines,
                                                   std::span<const float> their_second,
                                                   std::span<const float> ours);

}  // namespace superstep::worker
