// Decimal numbers of a text file as float32, whatever the locale.
//
//   float value;
//   if (parse_number("-12.50", value) == NumberParse::kNumber) ...
//
// A number is an optional sign, digits with at most one point, an optional exponent; the value is
// the nearest float64, rounded to float32, and negative zero is zero. "inf", "nan", "0x10", "1_000"
// and "1,5" are not numbers. Numbers of up to 15 digits and small exponents, which is nearly all of
// them, take the exact short way (Clinger 1990: a product or quotient of two exact float64 is
// rounded once); the others go through std::from_chars.
#pragma once

#include <cstdint>
#include <string_view>

namespace superstep::worker {

enum class NumberParse : std::uint8_t { kNumber, kNotANumber, kOutOfRange };

// The same without the shortest way.
NumberParse parse_any_number(std::string_view text, float& value);

inline NumberParse parse_number(std::string_view text, float& value) {
  // Flags and small codes, which some tables are full of.
  if (text.size() == 1 && text[0] >= '0' && text[0] <= '9') {
    value = static_cast<float>(text[0] - '0');
    return NumberParse::kNumber;
  }
  return parse_any_number(text, value);
}

}  // namespace superstep::worker
