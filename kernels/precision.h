// In which numbers products and convolutions multiply.
//
//   kFloat32    as their operands are
//   kBfloat16   operands are rounded to bf16 (8 bits of significand, the exponents of float32), to
//               nearest, ties to even; their products, exact within float32's range, are added in
//               float32
//
// It is the attribute "precision" of matmul, conv2d and its adjoints, "bf16" or none. Operands and
// results stay float32 tensors: the rounding is part of the copy that kernels make of their
// operands, so that values are never stored twice. Gradients of a call have its precision.
//
// With bf16, operands below the smallest normal number count as zero, and with the processor's
// instructions (has_bf16_instructions) so do sums; elsewhere operands are rounded first and a
// float32 kernel multiplies (kernels/rounded_operands.h). The two differ in the order of additions.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/attributes.h"
#include "kernels/op.h"

namespace superstep::kernels {

enum class Precision : std::uint8_t { kFloat32, kBfloat16 };

std::string_view name_of(Precision precision);         // "float32", "bf16"
Precision precision_named(std::string_view name);      // throws InvalidArgument
Precision precision_of(const Attributes& attributes);  // throws InvalidArgument when it is no name
// float32 is written as no attribute.
Attributes with_precision(Attributes attributes, Precision precision);
// Throws InvalidArgument where operands of the call cannot be rounded: float64.
void expect_precision(std::string_view op, const OpSignature& signature);

// Whether this build multiplies bf16 numbers with instructions made for them (AVX512_BF16).
bool has_bf16_instructions();
std::string_view bf16_arithmetic();  // the same in words, for people and provenance

// To nearest, ties to even; subnormal numbers to zero, NaN to a quiet NaN, too large ones to
// infinity.
float rounded_to_bf16(float value);
void round_to_bf16(std::span<const float> from, std::span<float> to);  // of one size

}  // namespace superstep::kernels
