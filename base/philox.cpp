#include "base/philox.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep {

namespace {

__extension__ using Uint128 = unsigned __int128;

struct NormalPair {
  double first;
  double second;
};

// Box-Muller. The radius takes 1 - u in (0, 1], which keeps the logarithm finite: at most 8.6
// standard deviations.
NormalPair normal_pair(const PhiloxBlock& words) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - unit_double(words[0], words[1])));
  const double angle = 2.0 * std::numbers::pi * unit_double(words[2], words[3]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

float scaled_normal(double standard_normal, float mean, float standard_deviation) {
  return static_cast<float>(double{mean} + double{standard_deviation} * standard_normal);
}

// Each element owns 16 blocks, that is 32 candidates; 0.0455^32 is 1e-43.
double truncated_normal(const PhiloxStream& stream, std::uint64_t index) {
  constexpr std::uint64_t kBlocksPerElement = 16;
  constexpr double kLimit = 2.0;
  for (std::uint64_t attempt = 0; attempt < kBlocksPerElement; ++attempt) {
    const NormalPair pair = normal_pair(stream.block(index * kBlocksPerElement + attempt));
    if (std::abs(pair.first) <= kLimit) {
      return pair.first;
    }
    if (std::abs(pair.second) <= kLimit) {
      return pair.second;
    }
  }
  return 0.0;
}

}  // namespace

PhiloxStream::PhiloxStream(std::uint64_t seed, std::span<const std::uint64_t> ids)
    : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
      upper_{static_cast<std::uint32_t>(ids.size()), 0} {
  for (const std::uint64_t id : ids) {
    const PhiloxBlock folded =
        philox4x32_10({static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32),
                       upper_[0], upper_[1]},
                      key_);
    key_ = {folded[0], folded[1]};
    upper_ = {folded[2], folded[3]};
  }
}

std::uint32_t PhiloxStream::bits32() {
  if (next_word_ == 4) {
    current_ = block(next_block_++);
    next_word_ = 0;
  }
  return current_[static_cast<std::size_t>(next_word_++)];
}

std::uint64_t PhiloxStream::bits64() {
  const std::uint64_t high = bits32();
  return high << 32 | bits32();
}

double PhiloxStream::uniform_double() {
  const std::uint32_t high = bits32();
  return unit_double(high, bits32());
}

std::uint64_t PhiloxStream::below(std::uint64_t n) {
  if (n == 0) {
    throw InvalidArgument("PhiloxStream::below", "got n = 0, expected at least 1");
  }
  Uint128 product = Uint128{bits64()} * n;
  if (static_cast<std::uint64_t>(product) < n) {
    const std::uint64_t threshold = (std::uint64_t{0} - n) % n;  // 2^64 mod n
    while (static_cast<std::uint64_t>(product) < threshold) {
      product = Uint128{bits64()} * n;
    }
  }
  return static_cast<std::uint64_t>(product >> 64);
}

double PhiloxStream::normal() {
  if (has_spare_normal_) {
    has_spare_normal_ = false;
    return spare_normal_;
  }
  PhiloxBlock words{};
  for (std::uint32_t& word : words) {
    word = bits32();
  }
  const NormalPair pair = normal_pair(words);
  spare_normal_ = pair.second;
  has_spare_normal_ = true;
  return pair.first;
}

std::vector<std::int64_t> permutation(std::int64_t n, std::uint64_t seed, std::uint64_t epoch) {
  if (n < 0) {
    throw InvalidArgument("permutation",
                          fmt::format("negative length: got {}, expected at least 0", n));
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  PhiloxStream stream(seed, stream_id("permutation"), epoch);
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<std::size_t>(stream.below(i))]);
  }
  return order;
}

void fill_uniform(std::span<float> out, const PhiloxStream& stream, float low, float high,
                  std::uint64_t first_index) {
  const float width = high - low;
  std::uint64_t current = 0;
  PhiloxBlock words{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t index = first_index + i;
    if (i == 0 || index / 4 != current) {
      current = index / 4;
      words = stream.block(current);
    }
    out[i] = low + width * unit_float(words[index % 4]);
  }
}

void fill_normal(std::span<float> out, const PhiloxStream& stream, float mean,
                 float standard_deviation, std::uint64_t first_index) {
  std::uint64_t current = 0;
  NormalPair pair{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t index = first_index + i;
    if (i == 0 || index / 2 != current) {
      current = index / 2;
      pair = normal_pair(stream.block(current));
    }
    out[i] = scaled_normal(index % 2 == 0 ? pair.first : pair.second, mean, standard_deviation);
  }
}

void fill_truncated_normal(std::span<float> out, const PhiloxStream& stream, float mean,
                           float standard_deviation, std::uint64_t first_index) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = scaled_normal(truncated_normal(stream, first_index + i), mean, standard_deviation);
  }
}

}  // namespace superstep
