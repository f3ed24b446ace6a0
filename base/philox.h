// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random
// Numbers: As Easy as 1, 2, 3", SC 2011). A number is a pure function of key and counter, so what
// is drawn depends on what it is drawn for (seed, epoch, sample, op), never on rank, thread or
// order.
//
//   PhiloxStream noise(seed, stream_id("dropout"), layer, epoch, sample);
//   float u = noise.uniform();                        // sequential
//   auto words = noise.block(7);                      // or random access: words 28 to 31
//   std::vector<std::int64_t> order = permutation(num_samples, seed, epoch);
//
// Integers and uniforms have the same bits everywhere. Normals go through the C library's log, sin
// and cos and have the same bits for one C library.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace superstep {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;
using PhiloxBlock = std::array<std::uint32_t, 4>;

// The bijection itself: ten rounds. Inlined so that fills vectorise.
constexpr PhiloxBlock philox4x32_10(PhiloxCounter counter, PhiloxKey key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9;  // golden ratio
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85;  // sqrt(3) - 1
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// Uniform in [0, 1): the top 24 (53) bits, so every value is exact and 1 is never reached.
constexpr float unit_float(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24F;
}
constexpr double unit_double(std::uint32_t high, std::uint32_t low) {
  return static_cast<double>((std::uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

// Names a purpose, so that streams for different purposes never share numbers (64-bit FNV-1a).
constexpr std::uint64_t stream_id(std::string_view purpose) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : purpose) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash;
}

// The numbers of one purpose. Seed and identifiers are folded, by Philox itself, into 128 bits: the
// key and the upper half of the counter; the lower half counts 2^64 blocks of four words. Copyable;
// a copy continues where the original stands.
class PhiloxStream {
 public:
  template <std::integral... Ids>
  explicit PhiloxStream(std::uint64_t seed, Ids... ids)
      : PhiloxStream(
            seed, std::array<std::uint64_t, sizeof...(Ids)>{static_cast<std::uint64_t>(ids)...}) {}
  template <std::size_t N>
  PhiloxStream(std::uint64_t seed, const std::array<std::uint64_t, N>& ids)
      : PhiloxStream(seed, std::span<const std::uint64_t>(ids)) {}
  PhiloxStream(std::uint64_t seed, std::span<const std::uint64_t> ids);

  // Random access, independent of the sequential position below.
  PhiloxBlock block(std::uint64_t index) const {
    return philox4x32_10({static_cast<std::uint32_t>(index),
                          static_cast<std::uint32_t>(index >> 32), upper_[0], upper_[1]},
                         key_);
  }

  // Sequential. bits64() takes two words, the first is the upper half.
  std::uint32_t bits32();
  std::uint64_t bits64();
  float uniform() { return unit_float(bits32()); }
  double uniform_double();
  // Uniform in [0, n), without bias (Lemire 2019: multiply and reject). Throws InvalidArgument for
  // n = 0.
  std::uint64_t below(std::uint64_t n);
  // Standard normal (Box and Muller 1958). Every second call is served from the pair's other half.
  double normal();

 private:
  PhiloxKey key_{};
  std::array<std::uint32_t, 2> upper_{};
  PhiloxBlock current_{};
  std::uint64_t next_block_ = 0;
  int next_word_ = 4;  // 4: the current block is used up
  double spare_normal_ = 0.0;
  bool has_spare_normal_ = false;
};

// A uniformly random order of 0 ... n-1 (Fisher-Yates from the end), keyed by seed and epoch only.
std::vector<std::int64_t> permutation(std::int64_t n, std::uint64_t seed, std::uint64_t epoch);

// Fills are random access: the element `first_index + i` of the whole array goes to out[i] whatever
// the range, so the owner of a part writes the same bits as somebody who fills all of it.
void fill_uniform(std::span<float> out, const PhiloxStream& stream, float low, float high,
                  std::uint64_t first_index = 0);
void fill_normal(std::span<float> out, const PhiloxStream& stream, float mean,
                 float standard_deviation, std::uint64_t first_index = 0);
// Normal, redrawn until within two standard deviations of the mean.
void fill_truncated_normal(std::span<float> out, const PhiloxStream& stream, float mean,
                           float standard_deviation, std::uint64_t first_index = 0);

}  // namespace superstep
