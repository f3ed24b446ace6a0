// Learning-rate schedules: a factor of the base rate as a pure function of the step.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::paramserver {

enum class ScheduleKind : std::uint8_t { kConstant, kStep, kCosine, kPolynomial };

struct LearningRateSchedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  std::int64_t warmup_steps = 0;                 // linear from rate/warmup_steps at step 1 to the full rate
  std::int64_t total_steps = 0;                  // cosine, polynomial: where the decay ends
  std::vector<std::int64_t> boundaries;          // step: the rate is multiplied by gamma after each
  double gamma = 0.1;
  double power = 1.0;                            // polynomial
  double final_factor = 0.0;                     // cosine, polynomial: factor at and after total_steps

  friend bool operator==(const LearningRateSchedule&, const LearningRateSchedule&) = default;
};

ScheduleKind schedule_kind(std::string_view name);
void validate(const LearningRateSchedule& schedule);
// step counts from 1.
double learning_rate_at(const LearningRateSchedule& schedule, double base_rate, std::int64_t step);

}  // namespace superstep::paramserver
