#include "paramserver/server_rule.h"

#include <cmath>
#include <cstddef>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"

namespace superstep::paramserver {

namespace {

void require_in(std::string_view field, double value, double low, double high) {
  if (!(value >= low) || !(value < high)) {
    throw InvalidArgument("ServerRule", fmt::format("{}: got {}, expected a number in [{}, {})",
                                                    field, value, low, high));
  }
}

constexpr double kMost = 1e30;

double next_second_moment(const ServerRule& rule, double v, double square) {
  switch (rule.kind) {
    case ServerRuleKind::kAdam:
      return rule.beta2 * v + (1.0 - rule.beta2) * square;
    case ServerRuleKind::kYogi: {
      const double sign = v > square ? 1.0 : (v < square ? -1.0 : 0.0);
      return v - (1.0 - rule.beta2) * square * sign;
    }
    default:
      return v + square;
  }
}

void adaptive(const ServerRule& rule, std::span<const double> mean, std::span<float> parameters,
              std::span<float> first, std::span<float> second) {
  for (std::size_t i = 0; i < mean.size(); ++i) {
    first[i] = static_cast<float>(rule.beta1 * static_cast<double>(first[i]) +
                                  (1.0 - rule.beta1) * mean[i]);
    second[i] = static_cast<float>(
        next_second_moment(rule, static_cast<double>(second[i]), mean[i] * mean[i]));
    const double step = rule.learning_rate * static_cast<double>(first[i]) /
                        (std::sqrt(static_cast<double>(second[i])) + rule.tau);
    parameters[i] = static_cast<float>(static_cast<double>(parameters[i]) + step);
  }
}

}  // namespace

std::string_view name_of(ServerRuleKind kind) {
  switch (kind) {
    case ServerRuleKind::kSgd:
      return "sgd";
    case ServerRuleKind::kMomentum:
      return "momentum";
    case ServerRuleKind::kAdagrad:
      return "adagrad";
    case ServerRuleKind::kAdam:
      return "adam";
    case ServerRuleKind::kYogi:
      return "yogi";
  }
  return "unknown";
}

void validate(const ServerRule& rule) {
  require_in("learning_rate", rule.learning_rate, 0.0, kMost);
  require_in("momentum", rule.momentum, 0.0, 1.0);
  require_in("beta1", rule.beta1, 0.0, 1.0);
  require_in("beta2", rule.beta2, 0.0, 1.0);
  require_in("tau", rule.tau, 1e-30, kMost);
  require_in("initial_accumulator", rule.initial_accumulator, 0.0, kMost);
}

std::vector<ServerState> state_arrays(const ServerRule& rule) {
  switch (rule.kind) {
    case ServerRuleKind::kSgd:
      return {};
    case ServerRuleKind::kMomentum:
      return {{.name = "momentum"}};
    default:
      return {{.name = "first_moment"},
              {.name = "second_moment", .initial_value = rule.initial_accumulator}};
  }
}

void apply(const ServerRule& rule, std::span<const double> mean, std::span<float> parameters,
           std::span<const std::span<float>> states) {
  SUPERSTEP_CHECK(mean.size() == parameters.size(), "elements of a shard", mean.size(),
                  parameters.size());
  if (rule.kind == ServerRuleKind::kSgd) {
    for (std::size_t i = 0; i < mean.size(); ++i) {
      parameters[i] =
          static_cast<float>(static_cast<double>(parameters[i]) + rule.learning_rate * mean[i]);
    }
    return;
  }
  if (rule.kind == ServerRuleKind::kMomentum) {
    for (std::size_t i = 0; i < mean.size(); ++i) {
      const double velocity = rule.momentum * static_cast<double>(states[0][i]) + mean[i];
      states[0][i] = static_cast<float>(velocity);
      parameters[i] =
          static_cast<float>(static_cast<double>(parameters[i]) + rule.learning_rate * velocity);
    }
    return;
  }
  adaptive(rule, mean, parameters, states[0], states[1]);
}

}  // namespace superstep::paramserver
