#include "paramserver/optimizer.h"

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "base/text.h"

namespace superstep::paramserver {

namespace {

constexpr std::array<std::pair<OptimizerKind, std::string_view>, 6> kNames{{
    {OptimizerKind::kSgd, "sgd"},
    {OptimizerKind::kMomentum, "momentum"},
    {OptimizerKind::kNesterov, "nesterov"},
    {OptimizerKind::kAdagrad, "adagrad"},
    {OptimizerKind::kAdam, "adam"},
    {OptimizerKind::kAdamW, "adamw"},
}};

[[noreturn]] void throw_out_of_range(std::string_view key, double value,
                                     std::string_view expected) {
  throw InvalidArgument("OptimizerSpec",
                        fmt::format("{}: got {}, expected {}", key, value, expected));
}

void require_non_negative(std::string_view key, double value) {
  if (!(value >= 0.0 && std::isfinite(value))) {
    throw_out_of_range(key, value, "a finite number >= 0");
  }
}

void require_fraction(std::string_view key, double value) {
  if (!(value >= 0.0 && value < 1.0)) {
    throw_out_of_range(key, value, "0 <= " + std::string(key) + " < 1");
  }
}

// One rule's update of element i. Every operation is a single IEEE operation in T and the build
// forbids contraction, so vector lanes and scalar tails give the same bits.
template <typename T>
struct Decay {
  T weight_decay;
  T operator()(T gradient, T parameter) const { return gradient + weight_decay * parameter; }
};
template <typename T>
struct NoDecay {
  T operator()(T gradient, T) const { return gradient; }
};

template <typename T, typename Regularize>
void sgd(T learning_rate, Regularize regularize, std::span<const T> gradient,
         std::span<T> parameters) {
  const T* __restrict g = gradient.data();
  T* __restrict p = parameters.data();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    p[i] -= learning_rate * regularize(g[i], p[i]);
  }
}

template <typename T, typename Regularize>
void momentum(T learning_rate, T mu, Regularize regularize, std::span<const T> gradient,
              std::span<T> parameters, std::span<T> velocity) {
  const T* __restrict g = gradient.data();
  T* __restrict p = parameters.data();
  T* __restrict v = velocity.data();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    v[i] = mu * v[i] + regularize(g[i], p[i]);
    p[i] -= learning_rate * v[i];
  }
}

template <typename T, typename Regularize>
void nesterov(T learning_rate, T mu, Regularize regularize, std::span<const T> gradient,
              std::span<T> parameters, std::span<T> velocity) {
  const T* __restrict g = gradient.data();
  T* __restrict p = parameters.data();
  T* __restrict v = velocity.data();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const T regularized = regularize(g[i], p[i]);
    v[i] = mu * v[i] + regularized;
    p[i] -= learning_rate * (regularized + mu * v[i]);
  }
}

template <typename T, typename Regularize>
void adagrad(T learning_rate, T epsilon, Regularize regularize, std::span<const T> gradient,
             std::span<T> parameters, std::span<T> accumulator) {
  const T* __restrict g = gradient.data();
  T* __restrict p = parameters.data();
  T* __restrict a = accumulator.data();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const T regularized = regularize(g[i], p[i]);
    a[i] += regularized * regularized;
    p[i] -= learning_rate * regularized / (std::sqrt(a[i]) + epsilon);
  }
}

template <typename T>
struct AdamScalars {
  T beta1;
  T one_minus_beta1;
  T beta2;
  T one_minus_beta2;
  T epsilon;
  T step_size;        // learning rate / (1 - beta1^step)
  T root_correction;  // 1 / sqrt(1 - beta2^step)
  T keep;             // adamw: 1 - learning rate * weight decay; else 1
};

template <typename T>
AdamScalars<T> adam_scalars(const OptimizerSpec& spec, const UpdateStep& step) {
  const auto steps = static_cast<double>(step.step);
  const bool decoupled = spec.kind == OptimizerKind::kAdamW && step.decayed;
  return {.beta1 = static_cast<T>(spec.beta1),
          .one_minus_beta1 = static_cast<T>(1.0 - spec.beta1),
          .beta2 = static_cast<T>(spec.beta2),
          .one_minus_beta2 = static_cast<T>(1.0 - spec.beta2),
          .epsilon = static_cast<T>(spec.epsilon),
          .step_size = static_cast<T>(step.learning_rate / (1.0 - std::pow(spec.beta1, steps))),
          .root_correction = static_cast<T>(1.0 / std::sqrt(1.0 - std::pow(spec.beta2, steps))),
          .keep = static_cast<T>(decoupled ? 1.0 - step.learning_rate * spec.weight_decay : 1.0)};
}

template <typename T, typename Regularize>
void adam(const AdamScalars<T>& scalars, Regularize regularize, std::span<const T> gradient,
          std::span<T> parameters, std::span<T> first_moment, std::span<T> second_moment) {
  const AdamScalars<T> s = scalars;
  const T* __restrict g = gradient.data();
  T* __restrict p = parameters.data();
  T* __restrict m = first_moment.data();
  T* __restrict v = second_moment.data();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const T regularized = regularize(g[i], p[i]);
    m[i] = s.beta1 * m[i] + s.one_minus_beta1 * regularized;
    v[i] = s.beta2 * v[i] + s.one_minus_beta2 * (regularized * regularized);
    const T denominator = std::sqrt(v[i]) * s.root_correction + s.epsilon;
    p[i] = s.keep * p[i] - s.step_size * m[i] / denominator;
  }
}

template <typename T, typename Regularize>
void dispatch(const OptimizerSpec& spec, const UpdateStep& step, Regularize regularize,
              std::span<const T> gradient, std::span<T> parameters,
              std::span<const std::span<T>> states) {
  const T rate = static_cast<T>(step.learning_rate);
  const T mu = static_cast<T>(spec.momentum);
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return sgd(rate, regularize, gradient, parameters);
    case OptimizerKind::kMomentum:
      return momentum(rate, mu, regularize, gradient, parameters, states[0]);
    case OptimizerKind::kNesterov:
      return nesterov(rate, mu, regularize, gradient, parameters, states[0]);
    case OptimizerKind::kAdagrad:
      return adagrad(rate, static_cast<T>(spec.epsilon), regularize, gradient, parameters,
                     states[0]);
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return adam(adam_scalars<T>(spec, step), regularize, gradient, parameters, states[0],
                  states[1]);
  }
  SUPERSTEP_CHECK(false, "unknown optimizer", static_cast<int>(spec.kind));
}

template <typename T>
void check_spans(const OptimizerSpec& spec, const UpdateStep& step, std::span<const T> gradient,
                 std::span<T> parameters, std::span<const std::span<T>> states) {
  SUPERSTEP_CHECK(step.step >= 1, "steps count from 1", step.step);
  SUPERSTEP_CHECK(gradient.size() == parameters.size(), "gradient and parameters", gradient.size(),
                  parameters.size());
  SUPERSTEP_CHECK(static_cast<int>(states.size()) == num_state_arrays(spec.kind), "state arrays of",
                  name_of(spec.kind), states.size());
  for (const std::span<T> state : states) {
    SUPERSTEP_CHECK(state.size() == gradient.size(), "state and gradient", state.size(),
                    gradient.size());
  }
}

}  // namespace

std::string_view name_of(OptimizerKind kind) {
  for (const auto& [candidate, name] : kNames) {
    if (candidate == kind) {
      return name;
    }
  }
  SUPERSTEP_CHECK(false, "unknown optimizer", static_cast<int>(kind));
}

OptimizerKind optimizer_kind(std::string_view name) {
  std::vector<std::string> known;
  for (const auto& [kind, candidate] : kNames) {
    if (candidate == name) {
      return kind;
    }
    known.emplace_back(candidate);
  }
  throw InvalidArgument("optimizer_kind",
                        fmt::format("unknown optimizer \"{}\"{}; expected one of {}", name,
                                    did_you_mean(name, known), join(known)));
}

void validate(const OptimizerSpec& spec) {
  require_non_negative("learning_rate", spec.learning_rate);
  require_fraction("momentum", spec.momentum);
  require_fraction("beta1", spec.beta1);
  require_fraction("beta2", spec.beta2);
  require_non_negative("weight_decay", spec.weight_decay);
  require_non_negative("initial_accumulator", spec.initial_accumulator);
  // Below, a parameter that never had a gradient would be divided 0 / 0 in float32.
  constexpr double kLeastEpsilon = std::numeric_limits<float>::min();
  if (!(spec.epsilon >= kLeastEpsilon && std::isfinite(spec.epsilon))) {
    throw_out_of_range("epsilon", spec.epsilon,
                       fmt::format("a finite number >= {:.3g}", kLeastEpsilon));
  }
}

int num_state_arrays(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd:
      return 0;
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return 2;
    default:
      return 1;
  }
}

std::vector<StateArray> state_arrays(const OptimizerSpec& spec) {
  switch (spec.kind) {
    case OptimizerKind::kSgd:
      return {};
    case OptimizerKind::kMomentum:
    case OptimizerKind::kNesterov:
      return {{.name = "momentum", .initial_value = 0.0}};
    case OptimizerKind::kAdagrad:
      return {{.name = "accumulator", .initial_value = spec.initial_accumulator}};
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return {{.name = "first_moment", .initial_value = 0.0},
              {.name = "second_moment", .initial_value = 0.0}};
  }
  SUPERSTEP_CHECK(false, "unknown optimizer", static_cast<int>(spec.kind));
}

template <typename T>
void update(const OptimizerSpec& spec, const UpdateStep& step, std::span<const T> gradient,
            std::span<T> parameters, std::span<const std::span<T>> states) {
  check_spans(spec, step, gradient, parameters, states);
  // Without decay the term is left out, not multiplied by zero: 0 * inf would spoil the gradient.
  const bool coupled =
      step.decayed && spec.weight_decay != 0.0 && spec.kind != OptimizerKind::kAdamW;
  if (coupled) {
    dispatch(spec, step, Decay<T>{static_cast<T>(spec.weight_decay)}, gradient, parameters, states);
  } else {
    dispatch(spec, step, NoDecay<T>{}, gradient, parameters, states);
  }
}

template void update<float>(const OptimizerSpec&, const UpdateStep&, std::span<const float>,
                            std::span<float>, std::span<const std::span<float>>);
template void update<double>(const OptimizerSpec&, const UpdateStep&, std::span<const double>,
                             std::span<double>, std::span<const std::span<double>>);

}  // namespace superstep::paramserver
