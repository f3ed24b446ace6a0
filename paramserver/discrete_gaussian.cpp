#include "paramserver/discrete_gaussian.h"

#include <cerrno>
#include <cmath>
#include <system_error>

#include <fmt/format.h>
#include <sys/random.h>

#include "base/error.h"

namespace superstep::paramserver {

namespace {

double uniform(BitSource& bits) {
  return static_cast<double>(bits.bits64() >> 11) * 0x1p-53;
}

// Uniform in [0, n): multiply and reject (Lemire 2019).
std::uint64_t below(std::uint64_t n, BitSource& bits) {
  __extension__ using Wide = unsigned __int128;
  const std::uint64_t threshold = (0 - n) % n;
  while (true) {
    const Wide product = static_cast<Wide>(bits.bits64()) * n;
    if (static_cast<std::uint64_t>(product) >= threshold) {
      return static_cast<std::uint64_t>(product >> 64);
    }
  }
}

// True with probability exp(-gamma), gamma in [0, 1]: von Neumann's alternating trials.
bool toss_small(double gamma, BitSource& bits) {
  double k = 1.0;
  while (uniform(bits) < gamma / k) {
    k += 1.0;
  }
  return std::fmod(k, 2.0) == 1.0;
}

bool toss(double gamma, BitSource& bits) {
  while (gamma > 1.0) {
    if (!toss_small(1.0, bits)) {
      return false;
    }
    gamma -= 1.0;
  }
  return toss_small(gamma, bits);
}

}  // namespace

std::uint64_t SystemBits::bits64() {
  if (next_ == buffer_.size()) {
    auto* bytes = reinterpret_cast<unsigned char*>(buffer_.data());
    std::size_t filled = 0;
    while (filled < sizeof(buffer_)) {
      const ssize_t got = ::getrandom(bytes + filled, sizeof(buffer_) - filled, 0);
      if (got < 0 && errno != EINTR) {
        throw std::system_error(errno, std::generic_category(), "getrandom");
      }
      filled += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    next_ = 0;
  }
  return buffer_[next_++];
}

std::int64_t discrete_gaussian(double sigma, BitSource& bits) {
  if (!(sigma >= 0.0 && sigma <= 0x1p57)) {
    throw InvalidArgument("discrete_gaussian",
                          fmt::format("sigma: got {}, expected 0 to 2^57", sigma));
  }
  if (sigma == 0.0) {
    return 0;
  }
  const auto scale = static_cast<std::int64_t>(std::floor(sigma)) + 1;
  const auto t = static_cast<double>(scale);
  while (true) {
    const auto low = static_cast<std::int64_t>(below(static_cast<std::uint64_t>(scale), bits));
    if (!toss_small(static_cast<double>(low) / t, bits)) {
      continue;
    }
    std::int64_t high = 0;
    while (high < 32 && toss_small(1.0, bits)) {
      ++high;
    }
    const std::int64_t magnitude = low + scale * high;
    const bool negative = (bits.bits64() & 1) != 0;
    if (negative && magnitude == 0) {
      continue;
    }
    const double distance = std::abs(static_cast<double>(magnitude) - sigma * sigma / t) / sigma;
    if (toss(0.5 * distance * distance, bits)) {
      return negative ? -magnitude : magnitude;
    }
  }
}

}  // namespace superstep::paramserver
