#include "base/failpoint.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <limits>
#include <thread>

#include <fmt/format.h>

#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

namespace superstep {

namespace {

constexpr std::string_view kWhere = "SUPERSTEP_FAULT";
constexpr float kSpike = 1e6F;
constexpr std::array<std::string_view, 9> kActions = {"kill", "stop", "exit",  "throw", "delay",
                                                      "nan",  "inf",  "spike", "flip"};

float largest_magnitude(std::span<const float> data) {
  float largest = 0.0F;
  for (const float value : data) {
    largest = std::max(largest, std::abs(value));
  }
  return largest;
}

std::int64_t integer(std::string_view key, std::string_view value) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 0) {
    throw InvalidArgument(
        kWhere, fmt::format("{}: got \"{}\", expected a number of at least 0", key, value));
  }
  return number;
}

double probability(std::string_view value) {
  double number = 0.0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() ||
      !(number > 0.0 && number <= 1.0)) {
    throw InvalidArgument(
        kWhere, fmt::format("probability: got \"{}\", expected a number in (0, 1]", value));
  }
  return number;
}

void set_action(FailpointFault& fault, std::string_view value) {
  const std::size_t colon = value.find(':');
  fault.action = value.substr(0, colon);
  const std::vector<std::string> known(kActions.begin(), kActions.end());
  if (std::find(known.begin(), known.end(), fault.action) == known.end()) {
    throw InvalidArgument(kWhere, fmt::format("action \"{}\" is unknown{}", fault.action,
                                              did_you_mean(fault.action, known)));
  }
  if (colon != std::string_view::npos) {
    fault.argument = integer("action", value.substr(colon + 1));
  }
}

void set_field(FailpointFault& fault, std::string_view word) {
  const std::size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? "" : word.substr(equals + 1);
  if (key == "point") {
    fault.point = value;
  } else if (key == "rank") {
    fault.rank = integer(key, value);
  } else if (key == "superstep") {
    fault.superstep = integer(key, value);
  } else if (key == "attempt") {
    fault.attempt = integer(key, value);
  } else if (key == "nth") {
    fault.nth = integer(key, value);
  } else if (key == "seed") {
    fault.seed = integer(key, value);
  } else if (key == "element") {
    fault.element = integer(key, value);
  } else if (key == "probability") {
    fault.probability = probability(value);
  } else if (key == "action") {
    set_action(fault, value);
  } else {
    throw InvalidArgument(kWhere, fmt::format("key \"{}\" is unknown", key));
  }
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return parts;
}

// Uniform in [0, 1).
double draw(const FailpointFault& fault, const FailpointPlace& place, std::int64_t count) {
  const std::array<std::int64_t, 4> key = {fault.seed, place.attempt, place.rank, count};
  const Hash128 hash = hash_span<std::int64_t>(key);
  return static_cast<double>(hash.low >> 11U) * 0x1p-53;
}

// Faults and their counters live as long as the process: it is the process that breaks.
struct ArmedFault {
  FailpointFault fault;
  std::atomic<std::int64_t> matches{0};
};

std::deque<ArmedFault>& armed_faults() {
  static std::deque<ArmedFault> faults = [] {
    std::deque<ArmedFault> armed;
    for (FailpointFault& fault :
         parse_faults(environment_variable("SUPERSTEP_FAULT").value_or(""))) {
      armed.emplace_back().fault = std::move(fault);
    }
    return armed;
  }();
  return faults;
}

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local FailpointPlace place_of_thread;

void act(const FailpointFault& fault, const FailpointPlace& place, std::span<float> data) {
  fmt::print(stderr, "failpoint {} on rank {} at superstep {}: {}\n", place.point, place.rank,
             place.superstep, fault.action);
  std::fflush(stderr);
  if (fault.action == "kill") {
    std::raise(SIGKILL);
  } else if (fault.action == "stop") {
    std::raise(SIGSTOP);
  } else if (fault.action == "exit") {
    std::_Exit(static_cast<int>(fault.argument));
  } else if (fault.action == "throw") {
    throw DataError(kWhere, std::string(place.point), -1, "as asked for", ExitCode::kFailure);
  } else if (fault.action == "delay") {
    std::this_thread::sleep_for(std::chrono::milliseconds(fault.argument));
  } else {
    spoil(fault, data);
  }
}

}  // namespace

std::vector<FailpointFault> parse_faults(std::string_view text) {
  std::vector<FailpointFault> faults;
  for (const std::string_view part : split(text, ';')) {
    FailpointFault fault;
    for (const std::string_view word : split(part, ',')) {
      set_field(fault, word);
    }
    if (fault.action.empty()) {
      throw InvalidArgument(kWhere, fmt::format("no action in \"{}\"", part));
    }
    faults.push_back(std::move(fault));
  }
  return faults;
}

bool matches(const FailpointFault& fault, const FailpointPlace& place) {
  return (fault.point.empty() || fault.point == place.point) &&
         (fault.rank < 0 || fault.rank == place.rank) &&
         (fault.superstep < 0 || fault.superstep == place.superstep) &&
         (fault.attempt < 0 || fault.attempt == place.attempt);
}

bool fires(const FailpointFault& fault, const FailpointPlace& place, std::int64_t count) {
  if (fault.probability > 0.0) {
    return draw(fault, place, count) < fault.probability;
  }
  return fault.nth == 0 || count == fault.nth;
}

void spoil(const FailpointFault& fault, std::span<float> data) {
  if (data.empty() || fault.element >= static_cast<std::int64_t>(data.size())) {
    return;
  }
  const std::array<std::int64_t, 1> key = {fault.seed};
  float& value = data[fault.element >= 0 ? static_cast<std::size_t>(fault.element)
                                         : hash_span<std::int64_t>(key).low % data.size()];
  if (fault.action == "nan") {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (fault.action == "inf") {
    value = std::numeric_limits<float>::infinity();
  } else if (fault.action == "spike") {
    const float largest = largest_magnitude(data);
    value = std::copysign(largest == 0.0F ? 1.0F : largest, value) * kSpike;
  } else if (fault.action == "flip") {
    value =
        std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) ^ (1U << (fault.argument % 32)));
  }
}

void Failpoints::here(std::int64_t rank, std::int64_t superstep) {
  place_of_thread.rank = rank;
  place_of_thread.superstep = superstep;
  place_of_thread.attempt = environment_integer("SUPERSTEP_LAUNCH_ATTEMPT").value_or(0);
}

void Failpoints::hit(std::string_view point, std::span<float> data) {
  FailpointPlace place = place_of_thread;
  place.point = point;
  for (ArmedFault& armed : armed_faults()) {
    if (matches(armed.fault, place) && fires(armed.fault, place, ++armed.matches)) {
      act(armed.fault, place, data);
    }
  }
}

}  // namespace superstep
