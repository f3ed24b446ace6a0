// Learning-rate schedules: a factor of the base rate as a pure function of the step.
//
// Nothing is remembered between steps, so a resumed run has the rates of an uninterrupted one. With
// warm-up w, first = max(w, 1) and progress t = (step - first) / (total_steps - first), clamped to
// [0, 1]:
//
//   constant    1
//   step        gamma ^ (number of boundaries below step)
//   cosine      final + (1 - final) (1 + cos(pi t)) / 2        (Loshchilov and Hutter 2017, one
//   cycle) polynomial  final + (1 - final) (1 - t) ^ power
//
// times step / w while step < w. So step w (step 1 without warm-up) has the full rate, and step
// total_steps and all later ones have final_factor.
//
//   LearningRateSchedule schedule{.kind = ScheduleKind::kCosine, .warmup_steps = 100, .total_steps
//   = 5000}; validate(schedule); double rate = learning_rate_at(schedule, 0.1, step);
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::paramserver {

enum class ScheduleKind : std::uint8_t { kConstant, kStep, kCosine, kPolynomial };

struct LearningRateSchedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  std::int64_t warmup_steps = 0;  // linear from rate/warmup_steps at step 1 to the full rate
  std::int64_t total_steps = 0;   // cosine, polynomial: where the decay ends
  std::vector<std::int64_t> boundaries = {};  // step: the rate is multiplied by gamma after each
  double gamma = 0.1;
  double power = 1.0;         // polynomial
  double final_factor = 0.0;  // cosine, polynomial: factor at and after total_steps

  friend bool operator==(const LearningRateSchedule&, const LearningRateSchedule&) = default;
};

std::string_view name_of(ScheduleKind kind);
ScheduleKind schedule_kind(std::string_view name);  // throws InvalidArgument with the nearest name
void validate(const LearningRateSchedule& schedule);  // throws InvalidArgument naming key and range
// step counts from 1.
double learning_rate_at(const LearningRateSchedule& schedule, double base_rate, std::int64_t step);

}  // namespace superstep::paramserver
