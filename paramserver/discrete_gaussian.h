// Discrete Gaussian noise: integers, so that it can be added to sums in the ring
// (paramserver/ring.h).
//
// P(k) is proportional to exp(-k^2 / (2 sigma^2)) over all integers k. Sampled by the rejection of
// Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential Privacy", algorithm 3,
// from a discrete Laplace distribution; the probabilities of its coin tosses are rounded to
// doubles. Floating-point Gaussian noise has attacks that read values off the low bits (Mironov
// 2012); integers in a ring have no low bits.
//
// Where the bits come from is the caller's choice: the kernel's cryptographic generator for a claim
// of privacy, a seeded stream for tests, which protects nobody.
//
//   SystemBits bits;
//   std::int64_t noise = discrete_gaussian(1.5e9, bits);
//
// Cost: about a dozen draws of 64 bits per number, whatever sigma is.
#pragma once

#include <array>
#include <cstdint>

#include "base/philox.h"

namespace superstep::paramserver {

class BitSource {
 public:
  virtual ~BitSource() = default;
  virtual std::uint64_t bits64() = 0;
};

// getrandom(2): cryptographic, never the same twice.
class SystemBits final : public BitSource {
 public:
  std::uint64_t bits64() override;

 private:
  std::array<std::uint64_t, 512> buffer_{};
  std::size_t next_ = buffer_.size();
};

// For tests: a function of the stream's key. NOT private.
class SeededBits final : public BitSource {
 public:
  explicit SeededBits(const PhiloxStream& stream) : stream_(stream) {}
  std::uint64_t bits64() override { return stream_.bits64(); }

 private:
  PhiloxStream stream_;
};

// Throws InvalidArgument unless 0 <= sigma <= 2^57. sigma = 0 gives 0.
std::int64_t discrete_gaussian(double sigma, BitSource& bits);

}  // namespace superstep::paramserver
