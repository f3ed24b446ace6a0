#include "base/version.h"

#include <string>

#include <fmt/format.h>

#include "base/git_id.h"

namespace superstep {

std::string_view git_id() {
  return internal::kGitId;
}

std::string_view instruction_set() {
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__AVX__) || defined(__FMA__) || \
    defined(__ARM_FEATURE_SVE) || defined(__ARM_NEON)
  static constexpr std::string_view kNames =
#ifdef __AVX512F__
      " avx512f"
#endif
#ifdef __AVX512VL__
      " avx512vl"
#endif
#ifdef __AVX512DQ__
      " avx512dq"
#endif
#ifdef __AVX512BF16__
      " avx512bf16"
#endif
#ifdef __AVX2__
      " avx2"
#endif
#ifdef __AVX__
      " avx"
#endif
#ifdef __FMA__
      " fma"
#endif
#ifdef __ARM_FEATURE_SVE
      " sve"
#endif
#ifdef __ARM_NEON
      " neon"
#endif
      ;
  return kNames.substr(1);
#else
  return "baseline";
#endif
}

std::string version_text() {
  std::string text =
      fmt::format("superstep {} ({})\ncompiler: {}\nbuild: {} {}\ninstruction set: {}\n", kVersion,
                  git_id(), kCompiler, kBuildType, kBuildFlags, instruction_set());
  if (!kSanitizers.empty()) {
    text += fmt::format("sanitizers: {}\n", kSanitizers);
  }
  return text;
}

}  // namespace superstep
