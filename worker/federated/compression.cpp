#include "worker/federated/compression.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

constexpr std::size_t kBucket = 512;

std::int64_t bytes_of_bits(std::size_t count, int bits) {
  return (static_cast<std::int64_t>(count) * bits + 7) / 8;
}

std::int64_t kept(const CompressionOptions& options, std::size_t size) {
  const auto wanted =
      static_cast<std::int64_t>(std::llround(options.keep * static_cast<double>(size)));
  return std::clamp<std::int64_t>(wanted, 1, static_cast<std::int64_t>(size));
}

std::int64_t qsgd(int levels, PhiloxStream stream, std::span<float> update) {
  std::int64_t bytes = 0;
  const int width = std::bit_width(static_cast<unsigned>(2 * levels));
  for (std::size_t first = 0; first < update.size(); first += kBucket) {
    const std::span<float> bucket = update.subspan(first, std::min(kBucket, update.size() - first));
    double squares = 0.0;
    for (const float value : bucket) {
      squares += static_cast<double>(value) * static_cast<double>(value);
    }
    const double norm = std::sqrt(squares);
    for (float& value : bucket) {
      const double uniform = stream.uniform_double();
      if (norm > 0.0) {
        const double scaled = std::abs(static_cast<double>(value)) / norm * levels;
        value = static_cast<float>(std::copysign(std::floor(scaled + uniform) * norm / levels,
                                                 static_cast<double>(value)));
      }
    }
    bytes += 4 + bytes_of_bits(bucket.size(), width);
  }
  return bytes;
}

// Ties go to the lower index.
std::int64_t top_k(std::int64_t count, std::span<float> update) {
  std::vector<std::size_t> order(update.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto middle = order.begin() + count;
  std::nth_element(order.begin(), middle - 1, order.end(), [&](std::size_t a, std::size_t b) {
    const float left = std::abs(update[a]);
    const float right = std::abs(update[b]);
    return left != right ? left > right : a < b;
  });
  std::for_each(middle, order.end(), [&](std::size_t i) { update[i] = 0.0F; });
  return count * 8;
}

// The first `count` of a random order (Fisher-Yates from the front).
std::int64_t random_k(std::int64_t count, bool scaled, PhiloxStream stream,
                      std::span<float> update) {
  std::vector<std::size_t> order(update.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto wanted = static_cast<std::size_t>(count);
  for (std::size_t i = 0; i < wanted; ++i) {
    std::swap(order[i], order[i + stream.below(order.size() - i)]);
  }
  const float factor =
      scaled ? static_cast<float>(update.size()) / static_cast<float>(count) : 1.0F;
  for (std::size_t i = 0; i < order.size(); ++i) {
    update[order[i]] = i < wanted ? update[order[i]] * factor : 0.0F;
  }
  return count * 4 + 8;
}

std::int64_t signs(std::span<float> update) {
  double sum = 0.0;
  for (const float value : update) {
    sum += std::abs(static_cast<double>(value));
  }
  const auto scale = static_cast<float>(sum / static_cast<double>(update.size()));
  bool any_zero = false;
  for (float& value : update) {
    any_zero = any_zero || value == 0.0F;
    value = value == 0.0F ? 0.0F : std::copysign(scale, value);
  }
  return bytes_of_bits(update.size(), any_zero ? 2 : 1) + 4;
}

// Orthonormal Walsh-Hadamard transform of a power-of-two length; its own inverse.
void hadamard(std::span<double> values) {
  for (std::size_t half = 1; half < values.size(); half *= 2) {
    for (std::size_t first = 0; first < values.size(); first += 2 * half) {
      for (std::size_t i = first; i < first + half; ++i) {
        const double left = values[i];
        const double right = values[i + half];
        values[i] = left + right;
        values[i + half] = left - right;
      }
    }
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(values.size()));
  for (double& value : values) {
    value *= scale;
  }
}

std::int64_t rotation(int bits, PhiloxStream stream, std::span<float> update) {
  std::vector<double> values(std::bit_ceil(update.size()), 0.0);
  std::vector<double> flips(values.size());
  for (double& flip : flips) {
    flip = (stream.bits32() & 1U) != 0 ? -1.0 : 1.0;
  }
  for (std::size_t i = 0; i < update.size(); ++i) {
    values[i] = flips[i] * static_cast<double>(update[i]);
  }
  hadamard(values);
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const double low = *least;
  const double step = (*most - low) / static_cast<double>((1 << bits) - 1);
  for (double& value : values) {
    const double uniform = stream.uniform_double();
    value = step > 0.0 ? low + std::floor((value - low) / step + uniform) * step : value;
  }
  hadamard(values);
  for (std::size_t i = 0; i < update.size(); ++i) {
    update[i] = static_cast<float>(flips[i] * values[i]);
  }
  return bytes_of_bits(values.size(), bits) + 16;
}

}  // namespace

std::string_view name_of(CompressionKind kind) {
  switch (kind) {
    case CompressionKind::kNone:
      return "none";
    case CompressionKind::kQsgd:
      return "qsgd";
    case CompressionKind::kTopK:
      return "top_k";
    case CompressionKind::kRandomK:
      return "random_k";
    case CompressionKind::kSign:
      return "sign";
    case CompressionKind::kRotation:
      return "rotation";
  }
  return "unknown";
}

void validate(const CompressionOptions& options) {
  require_field("CompressionOptions", options.keep > 0.0 && options.keep <= 1.0, "keep",
                options.keep, "a number in (0, 1]");
  require_field("CompressionOptions", options.levels >= 1 && options.levels <= 32767, "levels",
                options.levels, "1 to 32767");
  require_field("CompressionOptions", options.bits >= 1 && options.bits <= 16, "bits", options.bits,
                "1 to 16");
}

double scale_of_decoding(const CompressionOptions& options, std::int64_t size) {
  const bool scales =
      options.kind == CompressionKind::kRandomK && options.error_feedback == ErrorFeedback::kOff;
  const double elements = static_cast<double>(std::max<std::int64_t>(1, size));
  return scales ? elements / static_cast<double>(kept(options, static_cast<std::size_t>(elements)))
                : 1.0;
}

std::int64_t compress(const CompressionOptions& options, const PhiloxStream& stream,
                      std::span<float> update) {
  if (update.empty()) {
    return 0;
  }
  switch (options.kind) {
    case CompressionKind::kNone:
      return static_cast<std::int64_t>(update.size_bytes());
    case CompressionKind::kQsgd:
      return qsgd(options.levels, stream, update);
    case CompressionKind::kTopK:
      return top_k(kept(options, update.size()), update);
    case CompressionKind::kRandomK:
      return random_k(kept(options, update.size()), options.error_feedback == ErrorFeedback::kOff,
                      stream, update);
    case CompressionKind::kSign:
      return signs(update);
    case CompressionKind::kRotation:
      return rotation(options.bits, stream, update);
  }
  SUPERSTEP_CHECK(false, "unknown compression", static_cast<int>(options.kind));
}

}  // namespace superstep::worker
