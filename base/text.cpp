#include "base/text.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace superstep {

namespace {

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return lower;
}

// Three significant digits of a scaled value; whole units are printed exactly.
std::string scaled(std::int64_t number, double base, std::span<const char* const> units,
                   std::string_view separator) {
  double value = std::abs(static_cast<double>(number));
  std::size_t unit = 0;
  // A value that would print as `base` moves to the next unit: 999,999 is "1.00 M", not "1000 k".
  while (unit + 1 < units.size() && value >= (unit == 0 ? base : base - 0.5)) {
    value /= base;
    ++unit;
  }
  if (unit == 0) {
    return fmt::format("{}{}{}", number, units[0][0] == '\0' ? "" : separator, units[0]);
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{}{:.{}f}{}{}", number < 0 ? "-" : "", value, decimals, separator,
                     units[unit]);
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the alignment table: two back (for swaps), previous, current.
  std::vector<int> before(b.size() + 1);
  std::vector<int> previous(b.size() + 1);
  std::vector<int> current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    current[j] = static_cast<int>(j);
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, previous);
    std::swap(previous, current);
    current[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int substitution = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
  }
  return current[b.size()];
}

std::optional<std::string> nearest_name(std::string_view name,
                                        std::span<const std::string> candidates) {
  const int limit = std::max(1, static_cast<int>(name.size()) / 3);
  const std::string wanted = lower_case(name);
  int best = limit + 1;
  std::optional<std::string> nearest;
  for (const std::string& candidate : candidates) {
    // At least the difference in length: a name of a megabyte is compared with nothing.
    if (std::cmp_greater_equal(
            std::max(wanted.size(), candidate.size()) - std::min(wanted.size(), candidate.size()),
            best)) {
      continue;
    }
    const int distance = edit_distance(wanted, lower_case(candidate));
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> candidates) {
  const std::optional<std::string> nearest = nearest_name(name, candidates);
  return nearest ? fmt::format("; did you mean \"{}\"?", *nearest) : std::string();
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string human_bytes(std::int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  return scaled(bytes, 1024.0, kUnits, " ");
}

std::string human_count(std::int64_t count) {
  static constexpr const char* kUnits[] = {"", "k", "M", "G", "T", "P", "E"};
  return scaled(count, 1000.0, kUnits, " ");
}

std::string grouped(std::int64_t number) {
  const std::string digits = fmt::format("{}", number);
  const std::size_t first = number < 0 ? 1 : 0;
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) {
      text += ',';
    }
    text += digits[i];
  }
  return text;
}

}  // namespace superstep
