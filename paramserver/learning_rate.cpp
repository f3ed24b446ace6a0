#include "paramserver/learning_rate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/text.h"

namespace superstep::paramserver {

namespace {

constexpr std::array<std::pair<ScheduleKind, std::string_view>, 4> kNames{{
    {ScheduleKind::kConstant, "constant"},
    {ScheduleKind::kStep, "step"},
    {ScheduleKind::kCosine, "cosine"},
    {ScheduleKind::kPolynomial, "polynomial"},
}};

[[noreturn]] void throw_invalid(const std::string& what) {
  throw InvalidArgument("LearningRateSchedule", what);
}

// 0 up to the first step of the full rate, 1 from total_steps on.
double progress(const LearningRateSchedule& schedule, std::int64_t step) {
  const std::int64_t first = std::max<std::int64_t>(schedule.warmup_steps, 1);
  if (step >= schedule.total_steps) {
    return 1.0;
  }
  return static_cast<double>(std::max<std::int64_t>(step - first, 0)) /
         static_cast<double>(schedule.total_steps - first);
}

// From 1 to final_factor as `remaining` goes from 1 to 0.
double between(double final_factor, double remaining) {
  return final_factor + (1.0 - final_factor) * remaining;
}

double decay_factor(const LearningRateSchedule& schedule, std::int64_t step) {
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return 1.0;
    case ScheduleKind::kStep: {
      const auto& boundaries = schedule.boundaries;
      const auto passed = std::lower_bound(boundaries.begin(), boundaries.end(), step);
      return std::pow(schedule.gamma, static_cast<double>(passed - boundaries.begin()));
    }
    case ScheduleKind::kCosine:
      return between(schedule.final_factor,
                     0.5 * (1.0 + std::cos(std::numbers::pi * progress(schedule, step))));
    case ScheduleKind::kPolynomial:
      return between(schedule.final_factor,
                     std::pow(1.0 - progress(schedule, step), schedule.power));
  }
  SUPERSTEP_CHECK(false, "unknown schedule", static_cast<int>(schedule.kind));
}

void validate_step(const LearningRateSchedule& schedule) {
  const auto& boundaries = schedule.boundaries;
  if (boundaries.empty()) {
    throw_invalid("boundaries: got none, expected at least one for kind \"step\"");
  }
  if (boundaries.front() < 1 || std::adjacent_find(boundaries.begin(), boundaries.end(),
                                                   std::greater_equal<>()) != boundaries.end()) {
    throw_invalid("boundaries: got numbers out of order, expected ascending steps >= 1");
  }
  if (!(schedule.gamma > 0.0 && std::isfinite(schedule.gamma))) {
    throw_invalid(fmt::format("gamma: got {}, expected a finite number > 0", schedule.gamma));
  }
}

void validate_decay(const LearningRateSchedule& schedule) {
  if (schedule.total_steps <= schedule.warmup_steps) {
    throw_invalid(fmt::format("total_steps: got {}, expected more than warmup_steps = {}",
                              schedule.total_steps, schedule.warmup_steps));
  }
  if (!(schedule.final_factor >= 0.0 && schedule.final_factor <= 1.0)) {
    throw_invalid(fmt::format("final_factor: got {}, expected 0 to 1", schedule.final_factor));
  }
  if (!(schedule.power > 0.0 && std::isfinite(schedule.power))) {
    throw_invalid(fmt::format("power: got {}, expected a finite number > 0", schedule.power));
  }
}

}  // namespace

std::string_view name_of(ScheduleKind kind) {
  for (const auto& [candidate, name] : kNames) {
    if (candidate == kind) {
      return name;
    }
  }
  SUPERSTEP_CHECK(false, "unknown schedule", static_cast<int>(kind));
}

ScheduleKind schedule_kind(std::string_view name) {
  std::vector<std::string> known;
  for (const auto& [kind, candidate] : kNames) {
    if (candidate == name) {
      return kind;
    }
    known.emplace_back(candidate);
  }
  throw InvalidArgument("schedule_kind",
                        fmt::format("unknown schedule \"{}\"{}; expected one of {}", name,
                                    did_you_mean(name, known), join(known)));
}

void validate(const LearningRateSchedule& schedule) {
  if (schedule.warmup_steps < 0) {
    throw_invalid(fmt::format("warmup_steps: got {}, expected >= 0", schedule.warmup_steps));
  }
  if (schedule.kind == ScheduleKind::kStep) {
    validate_step(schedule);
  }
  if (schedule.kind == ScheduleKind::kCosine || schedule.kind == ScheduleKind::kPolynomial) {
    validate_decay(schedule);
  }
}

double learning_rate_at(const LearningRateSchedule& schedule, double base_rate, std::int64_t step) {
  SUPERSTEP_CHECK(step >= 1, "steps count from 1", step);
  const double warmup = step < schedule.warmup_steps
                            ? static_cast<double>(step) / static_cast<double>(schedule.warmup_steps)
                            : 1.0;
  return base_rate * (warmup * decay_factor(schedule, step));
}

}  // namespace superstep::paramserver
