#include "worker/gradient_fingerprint.h"

#include <algorithm>
#include <bit>

#include "base/as_size.h"
#include "base/check.h"

namespace superstep::worker {

namespace {

// Small enough that the one flipped bit in a line is found by trying all, at once.
constexpr std::int64_t kLineElements = 64;
constexpr int kFloatBits = 32;

std::uint64_t hash_line(std::span<const float> line) {
  return hash_span<float>(line).low;
}

// body(entry, first element of the line in it, range in the layout), until it returns true.
template <typename Body>
void for_lines(const paramserver::ParameterLayout& layout, const Body& body) {
  for (const paramserver::LayoutEntry& entry : layout.entries()) {
    const std::int64_t size = entry.num_elements();
    for (std::int64_t first = 0; first < size; first += kLineElements) {
      const std::int64_t end = std::min(first + kLineElements, size);
      if (body(entry, first,
               paramserver::ElementRange{.begin = entry.offset + first,
                                         .end = entry.offset + end})) {
        return;
      }
    }
  }
}

std::span<const float> part(std::span<const float> values, paramserver::ElementRange range) {
  return values.subspan(as_size(range.begin), as_size(range.length()));
}

std::uint32_t bits_of(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

// The line with one bit flipped so that it has this hash; empty: there is none.
std::vector<float> with_flipped_bit(std::span<const float> line, std::uint64_t hash) {
  std::vector<float> tried(line.begin(), line.end());
  for (float& value : tried) {
    const float kept = value;
    for (int bit = 0; bit < kFloatBits; ++bit) {
      value = std::bit_cast<float>(bits_of(kept) ^ (std::uint32_t{1} << bit));
      if (hash_line(tried) == hash) {
        return tried;
      }
    }
    value = kept;
  }
  return {};
}

GradientDifference difference_in(std::span<const float> theirs, std::span<const float> ours) {
  if (theirs.empty()) {
    return {.first = 0, .last = static_cast<std::int64_t>(ours.size()) - 1, .ours = ours.front()};
  }
  std::size_t at = 0;
  while (at + 1 < ours.size() && bits_of(theirs[at]) == bits_of(ours[at])) {
    ++at;
  }
  const auto index = static_cast<std::int64_t>(at);
  return {.first = index, .last = index, .theirs = theirs[at], .ours = ours[at]};
}

}  // namespace

std::int64_t num_fingerprint_lines(const paramserver::ParameterLayout& layout) {
  std::int64_t count = 0;
  for (const paramserver::LayoutEntry& entry : layout.entries()) {
    count += (entry.num_elements() + kLineElements - 1) / kLineElements;
  }
  return count;
}

GradientFingerprint fingerprint_of(const paramserver::ParameterLayout& layout,
                                   std::span<const float> gradient,
                                   std::span<const paramserver::SlotSummary> summaries) {
  GradientFingerprint result;
  result.lines.reserve(as_size(num_fingerprint_lines(layout)));
  for_lines(layout, [&](const auto& /*entry*/, std::int64_t /*first*/, auto range) {
    result.lines.push_back(hash_line(part(gradient, range)));
    return false;
  });
  Hasher hasher;
  hasher.update(std::as_bytes(std::span<const std::uint64_t>(result.lines)));
  for (const paramserver::SlotSummary& summary : summaries) {
    hasher.update_integer(summary.num_samples);
    hasher.update_integer(summary.num_correct);
    hasher.update_integer(std::bit_cast<std::uint64_t>(summary.loss_sum));
  }
  result.hash = hasher.digest();
  return result;
}

std::optional<GradientDifference> first_difference(const paramserver::ParameterLayout& layout,
                                                   std::span<const std::uint64_t> their_lines,
                                                   std::span<const float> their_second,
                                                   std::span<const float> ours) {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(their_lines.size()) == num_fingerprint_lines(layout),
                  "lines of a fingerprint", their_lines.size());
  std::optional<GradientDifference> found;
  std::size_t index = 0;
  for_lines(layout, [&](const paramserver::LayoutEntry& entry, std::int64_t first, auto range) {
    const std::uint64_t hash = their_lines[index++];
    const std::span<const float> line = part(ours, range);
    if (hash_line(line) == hash) {
      return false;
    }
    const std::span<const float> second = part(their_second, range);
    found = hash_line(second) == hash ? difference_in(second, line)
                                      : difference_in(with_flipped_bit(line, hash), line);
    found->entry = entry.name;
    found->first += first;
    found->last += first;
    return true;
  });
  return found;
}

}  // namespace superstep::worker
