#include "kernels/precision.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

constexpr std::string_view kAttribute = "precision";

constexpr std::uint32_t kExponent = 0x7f800000;
constexpr std::uint32_t kSign = 0x80000000;
constexpr std::uint32_t kQuiet = 0x00400000;
constexpr std::uint32_t kUpperHalf = 0xffff0000;

// Without branches, so that loops over it run in registers.
inline std::uint32_t rounded_bits(std::uint32_t bits) {
  const std::uint32_t nearest = bits + 0x7fff + ((bits >> 16) & 1U);
  const std::uint32_t number = (bits & kExponent) == 0 ? bits & kSign : nearest;
  return ((bits & ~kSign) > kExponent ? bits | kQuiet : number) & kUpperHalf;
}

}  // namespace

std::string_view name_of(Precision precision) {
  return precision == Precision::kBfloat16 ? "bf16" : "float32";
}

Precision precision_named(std::string_view name) {
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
    if (name_of(precision) == name) {
      return precision;
    }
  }
  throw InvalidArgument("precision",
                        fmt::format("got \"{}\", expected \"float32\" or \"bf16\"", name));
}

Precision precision_of(const Attributes& attributes) {
  return attributes.contains(kAttribute) ? precision_named(attributes.text(kAttribute))
                                         : Precision::kFloat32;
}

Attributes with_precision(Attributes attributes, Precision precision) {
  return precision == Precision::kFloat32
             ? std::move(attributes)
             : std::move(attributes).with(kAttribute, std::string(name_of(precision)));
}

void expect_precision(std::string_view op, const OpSignature& signature) {
  if (precision_of(signature.attributes) == Precision::kBfloat16 &&
      signature.inputs[0].dtype != DType::kFloat32) {
    fail_argument(op, kAttribute,
                  fmt::format("bf16 for operands of {}", name_of(signature.inputs[0].dtype)),
                  "operands of float32");
  }
}

bool has_bf16_instructions() {
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  return true;
#else
  return false;
#endif
}

std::string_view bf16_arithmetic() {
  return has_bf16_instructions() ? "AVX512_BF16" : "float32 on rounded operands";
}

float rounded_to_bf16(float value) {
  return std::bit_cast<float>(rounded_bits(std::bit_cast<std::uint32_t>(value)));
}

void round_to_bf16(std::span<const float> from, std::span<float> to) {
  SUPERSTEP_CHECK(from.size() == to.size(), "numbers to round", from.size(), to.size());
  std::transform(from.begin(), from.end(), to.begin(),
                 [](float value) { return rounded_to_bf16(value); });
}

}  // namespace superstep::kernels
