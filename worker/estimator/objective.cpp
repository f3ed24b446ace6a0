#include "worker/estimator/objective.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"

namespace superstep::worker {

namespace {

// Smallest second derivative: keeps G / H finite where a probability is 0 or 1 (XGBoost's value).
constexpr float kLeastHessian = 1e-16F;
constexpr float kLargestExponent = 88.7F;  // exp of it is finite in float32

struct ObjectiveName {
  Objective objective;
  std::string_view name;
};
constexpr std::array<ObjectiveName, 3> kObjectiveNames = {
    {{Objective::kBinaryLogistic, "binary"},
     {Objective::kMulticlass, "multiclass"},
     {Objective::kSquaredError, "regression"}}};

float logistic(float margin) {
  return 1.0F / (1.0F + std::exp(std::min(-margin, kLargestExponent)));
}

// log(1 + exp(x)) without overflow.
double softplus(double x) {
  return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}

void softmax(std::span<float> values) {
  const float most = *std::max_element(values.begin(), values.end());
  float sum = 0.0F;
  for (float& value : values) {
    value = std::exp(value - most);
    sum += value;
  }
  for (float& value : values) {
    value /= sum;
  }
}

void multiclass_derivatives(std::span<const float> margins, float label,
                            std::span<Derivatives> out) {
  const float most = *std::max_element(margins.begin(), margins.end());
  float sum = 0.0F;
  for (std::size_t k = 0; k < margins.size(); ++k) {
    out[k].gradient = std::exp(margins[k] - most);
    sum += out[k].gradient;
  }
  for (std::size_t k = 0; k < margins.size(); ++k) {
    const float p = out[k].gradient / sum;
    out[k].gradient = static_cast<float>(k) == label ? p - 1.0F : p;
    out[k].hessian = std::max(2.0F * p * (1.0F - p), kLeastHessian);
  }
}

}  // namespace

std::string_view name_of(Objective objective) {
  for (const ObjectiveName& entry : kObjectiveNames) {
    if (entry.objective == objective) {
      return entry.name;
    }
  }
  return "unknown";
}

std::vector<std::string> objective_names() {
  std::vector<std::string> names;
  names.reserve(kObjectiveNames.size());
  for (const ObjectiveName& entry : kObjectiveNames) {
    names.emplace_back(entry.name);
  }
  return names;
}

Objective objective_of(std::string_view name) {
  for (const ObjectiveName& entry : kObjectiveNames) {
    if (entry.name == name) {
      return entry.objective;
    }
  }
  throw InvalidArgument(
      "objective", fmt::format("got \"{}\", expected one of {}", name, join(objective_names())));
}

DerivativeBounds bounds_of(Objective objective) {
  switch (objective) {
    case Objective::kBinaryLogistic:
      return {.gradient = 1.0, .hessian = 0.25};
    case Objective::kMulticlass:
      return {.gradient = 1.0, .hessian = 0.5};
    case Objective::kSquaredError:
      break;
  }
  return {.gradient = 0.0, .hessian = 1.0};
}

void derivatives(Objective objective, std::span<const float> margins, float label,
                 std::span<Derivatives> out) {
  switch (objective) {
    case Objective::kBinaryLogistic: {
      const float p = logistic(margins[0]);
      out[0] = {.gradient = p - label, .hessian = std::max(p * (1.0F - p), kLeastHessian)};
      return;
    }
    case Objective::kMulticlass:
      multiclass_derivatives(margins, label, out);
      return;
    case Objective::kSquaredError:
      out[0] = {.gradient = margins[0] - label, .hessian = 1.0F};
      return;
  }
}

double loss(Objective objective, std::span<const float> margins, float label) {
  switch (objective) {
    case Objective::kBinaryLogistic: {
      const double margin = margins[0];
      return label == 1.0F ? softplus(-margin) : softplus(margin);
    }
    case Objective::kMulticlass: {
      const double most = *std::max_element(margins.begin(), margins.end());
      double sum = 0.0;
      for (const float margin : margins) {
        sum += std::exp(static_cast<double>(margin) - most);
      }
      return std::log(sum) + most - static_cast<double>(margins[static_cast<std::size_t>(label)]);
    }
    case Objective::kSquaredError:
      break;
  }
  const double difference = static_cast<double>(margins[0]) - static_cast<double>(label);
  return 0.5 * difference * difference;
}

int predicted_class(Objective objective, std::span<const float> margins) {
  if (objective == Objective::kBinaryLogistic) {
    return margins[0] > 0.0F ? 1 : 0;
  }
  return static_cast<int>(std::max_element(margins.begin(), margins.end()) - margins.begin());
}

void transform(Objective objective, std::span<float> margins) {
  if (objective == Objective::kBinaryLogistic) {
    margins[0] = logistic(margins[0]);
  } else if (objective == Objective::kMulticlass) {
    softmax(margins);
  }
}

float base_margin(Objective objective, double base_score) {
  if (objective != Objective::kBinaryLogistic) {
    return static_cast<float>(base_score);
  }
  if (!(base_score > 0.0 && base_score < 1.0)) {
    throw InvalidArgument("base_score", fmt::format("got {}, expected a probability between 0 and "
                                                    "1",
                                                    base_score));
  }
  return static_cast<float>(-std::log(1.0 / base_score - 1.0));
}

int num_outputs(Objective objective, int num_classes) {
  return objective == Objective::kMulticlass ? num_classes : 1;
}

}  // namespace superstep::worker
