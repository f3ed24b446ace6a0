#include "worker/data/csv_number.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <system_error>

namespace superstep::worker {

namespace {

constexpr int kExactDigits = 15;  // any integer of so many digits is a float64
constexpr std::array<double, 16> kPowersOfTen = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// The long way: any number of digits, exponents, and everything that is not a number.
NumberParse parse_any(std::string_view text, double& value) {
  // from_chars knows no plus, and would take "inf" and "nan", too.
  const std::size_t first = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  if (first >= text.size() || !(is_digit(text[first]) || text[first] == '.')) {
    return NumberParse::kNotANumber;
  }
  text.remove_prefix(text.starts_with('+') ? 1 : 0);
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (stop != end || error == std::errc::invalid_argument) {
    return NumberParse::kNotANumber;
  }
  return error == std::errc() ? NumberParse::kNumber : NumberParse::kOutOfRange;
}

// Digits with at most one point; false when the text is anything else or too long to be exact.
bool parse_short(std::string_view text, double& value) {
  std::size_t i = 0;
  const bool negative = !text.empty() && text[0] == '-';
  i += negative ? 1 : 0;
  std::int64_t mantissa = 0;
  int digits = 0;
  std::size_t point = text.size();
  for (; i < text.size(); ++i) {
    if (is_digit(text[i])) {
      mantissa = mantissa * 10 + (text[i] - '0');
      if (++digits > kExactDigits) {
        return false;
      }
    } else if (text[i] == '.' && point == text.size()) {
      point = i;
    } else {
      return false;
    }
  }
  if (digits == 0) {
    return false;
  }
  const std::size_t decimals = point == text.size() ? 0 : text.size() - point - 1;
  const double magnitude = static_cast<double>(mantissa) / kPowersOfTen[decimals];
  value = negative ? -magnitude : magnitude;
  return true;
}

}  // namespace

NumberParse parse_any_number(std::string_view text, float& value) {
  double wide = 0.0;
  if (!parse_short(text, wide)) {
    const NumberParse outcome = parse_any(text, wide);
    if (outcome != NumberParse::kNumber) {
      return outcome;
    }
  }
  if (std::abs(wide) > static_cast<double>(std::numeric_limits<float>::max())) {
    return NumberParse::kOutOfRange;
  }
  value = static_cast<float>(wide) + 0.0F;  // -0 + 0 is +0
  return NumberParse::kNumber;
}

}  // namespace superstep::worker
