#include "base/processor.h"

#include <cfenv>
#include <string_view>

#include <fmt/format.h>
#include <immintrin.h>

namespace superstep {

std::string processor_features() {
  std::string features;
  const auto note = [&](bool supported, std::string_view name) {
    features += supported ? fmt::format("{}{}", features.empty() ? "" : " ", name) : "";
  };
  __builtin_cpu_init();
  note(__builtin_cpu_supports("sse4.2"), "sse4.2");
  note(__builtin_cpu_supports("avx"), "avx");
  note(__builtin_cpu_supports("avx2"), "avx2");
  note(__builtin_cpu_supports("fma"), "fma");
  note(__builtin_cpu_supports("avx512f"), "avx512f");
  note(__builtin_cpu_supports("avx512bw"), "avx512bw");
  note(__builtin_cpu_supports("avx512vl"), "avx512vl");
  note(__builtin_cpu_supports("avx512vnni"), "avx512vnni");
  note(__builtin_cpu_supports("avx512bf16"), "avx512bf16");
  return features;
}

std::string floating_point_mode() {
  constexpr unsigned int kFlushBits = 0x8040;
  return fmt::format("rounding {}, flush {:#x}", std::fegetround(), _mm_getcsr() & kFlushBits);
}

}  // namespace superstep
