#include "paramserver/optimizer.h"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/aligned.h"
#include "base/check.h"
#include "base/error.h"
#include "base/philox.h"
#include "tests/support/error_text.h"

namespace superstep::paramserver {
namespace {

using testing::error_text;
using ::testing::HasSubstr;

constexpr std::array kAllKinds{OptimizerKind::kSgd,      OptimizerKind::kMomentum,
                               OptimizerKind::kNesterov, OptimizerKind::kAdagrad,
                               OptimizerKind::kAdam,     OptimizerKind::kAdamW};

// Parameters with their state, filled as a run would begin.
template <typename T>
struct Trained {
  Trained(const OptimizerSpec& optimizer, std::vector<T> initial)
      : spec(optimizer), parameters(std::move(initial)) {
    for (const StateArray& array : state_arrays(spec)) {
      states.emplace_back(parameters.size(), static_cast<T>(array.initial_value));
    }
  }

  void step(const UpdateStep& step, std::span<const T> gradient) {
    std::vector<std::span<T>> spans(states.begin(), states.end());
    update<T>(spec, step, gradient, parameters, spans);
  }

  OptimizerSpec spec;
  std::vector<T> parameters;
  std::vector<std::vector<T>> states;
};

// The textbook, one element at a time, with the bias correction on the moments.
struct ReferenceElement {
  double parameter = 0.0;
  double first = 0.0;
  double second = 0.0;

  void step(const OptimizerSpec& s, std::int64_t t, double rate, bool decayed, double gradient) {
    const double decay = decayed ? s.weight_decay : 0.0;
    const double g = s.kind == OptimizerKind::kAdamW ? gradient : gradient + decay * parameter;
    switch (s.kind) {
      case OptimizerKind::kSgd:
        parameter -= rate * g;
        break;
      case OptimizerKind::kMomentum:
        first = s.momentum * first + g;
        parameter -= rate * first;
        break;
      case OptimizerKind::kNesterov:
        first = s.momentum * first + g;
        parameter -= rate * (g + s.momentum * first);
        break;
      case OptimizerKind::kAdagrad:
        first += g * g;
        parameter -= rate * g / (std::sqrt(first) + s.epsilon);
        break;
      case OptimizerKind::kAdamW:
        parameter -= rate * decay * parameter;
        [[fallthrough]];
      case OptimizerKind::kAdam: {
        first = s.beta1 * first + (1.0 - s.beta1) * g;
        second = s.beta2 * second + (1.0 - s.beta2) * g * g;
        const double m_hat = first / (1.0 - std::pow(s.beta1, static_cast<double>(t)));
        const double v_hat = second / (1.0 - std::pow(s.beta2, static_cast<double>(t)));
        parameter -= rate * m_hat / (std::sqrt(v_hat) + s.epsilon);
        break;
      }
    }
  }
};

std::vector<double> normals(std::size_t size, std::uint64_t seed) {
  PhiloxStream stream(seed);
  std::vector<double> values(size);
  for (double& value : values) {
    value = stream.normal();
  }
  return values;
}

// Every rule with every option on and off.
std::vector<OptimizerSpec> all_specs() {
  std::vector<OptimizerSpec> specs;
  for (const OptimizerKind kind : kAllKinds) {
    for (const double weight_decay : {0.0, 0.01}) {
      specs.push_back({.kind = kind, .weight_decay = weight_decay});
      specs.push_back({.kind = kind,
                       .momentum = 0.5,
                       .beta1 = 0.8,
                       .beta2 = 0.99,
                       .epsilon = 1e-3,
                       .weight_decay = weight_decay,
                       .initial_accumulator = 0.1});
    }
  }
  return specs;
}

std::string describe(const OptimizerSpec& spec) {
  return std::string(name_of(spec.kind)) + " decay " + std::to_string(spec.weight_decay) +
         " epsilon " + std::to_string(spec.epsilon);
}

template <typename T>
void expect_textbook(const OptimizerSpec& spec, bool decayed, double tolerance) {
  constexpr std::size_t kSize = 67;
  const std::vector<double> initial = normals(kSize, 1);
  Trained<T> trained(spec, std::vector<T>(initial.begin(), initial.end()));
  std::vector<ReferenceElement> reference(kSize);
  for (std::size_t i = 0; i < kSize; ++i) {
    reference[i].parameter = static_cast<T>(initial[i]);
    reference[i].first = spec.kind == OptimizerKind::kAdagrad ? spec.initial_accumulator : 0.0;
  }
  for (std::int64_t t = 1; t <= 100; ++t) {
    const double rate = 0.01 / static_cast<double>(t % 7 + 1);
    const std::vector<double> exact = normals(kSize, 100 + static_cast<std::uint64_t>(t));
    const std::vector<T> gradient(exact.begin(), exact.end());
    trained.step({.step = t, .learning_rate = rate, .decayed = decayed}, gradient);
    for (std::size_t i = 0; i < kSize; ++i) {
      reference[i].step(spec, t, rate, decayed, gradient[i]);
      ASSERT_NEAR(trained.parameters[i], reference[i].parameter, tolerance)
          << describe(spec) << " step " << t << " element " << i;
    }
  }
}

TEST(Optimizer, AgreesWithTheTextbookInDouble) {
  for (const OptimizerSpec& spec : all_specs()) {
    for (const bool decayed : {true, false}) {
      expect_textbook<double>(spec, decayed, 1e-12);
    }
  }
}

TEST(Optimizer, AgreesWithTheTextbookInFloat) {
  // 100 steps, a few roundings of numbers up to 4 each.
  constexpr double kTolerance = 400 * std::numeric_limits<float>::epsilon();
  for (const OptimizerSpec& spec : all_specs()) {
    for (const bool decayed : {true, false}) {
      expect_textbook<float>(spec, decayed, kTolerance);
    }
  }
}

// One step from p = 2 with g = 0.5, rate 0.1, weight decay 0.25: g' = 0.5 + 0.25 * 2 = 1.
double first_step(OptimizerSpec spec) {
  Trained<double> trained(spec, {2.0});
  const std::vector<double> gradient{0.5};
  trained.step({.step = 1, .learning_rate = 0.1}, gradient);
  return trained.parameters[0];
}

TEST(Optimizer, MakesTheFirstStepThatOneComputesByHand) {
  constexpr double kDecay = 0.25;
  using Kind = OptimizerKind;
  EXPECT_DOUBLE_EQ(first_step({.kind = Kind::kSgd, .weight_decay = kDecay}), 1.9);
  EXPECT_DOUBLE_EQ(first_step({.kind = Kind::kMomentum, .weight_decay = kDecay}), 1.9);
  // g' + 0.9 * g' = 1.9
  EXPECT_DOUBLE_EQ(first_step({.kind = Kind::kNesterov, .weight_decay = kDecay}), 1.81);
  // a = 3 + 1, 1 / (2 + 0.5) = 0.4
  EXPECT_DOUBLE_EQ(first_step({.kind = Kind::kAdagrad,
                               .epsilon = 0.5,
                               .weight_decay = kDecay,
                               .initial_accumulator = 3.0}),
                   1.96);
  // The corrected moments of the first step are g' and g'^2: 1 / (1 + 1) = 0.5
  EXPECT_DOUBLE_EQ(first_step({.kind = Kind::kAdam, .epsilon = 1.0, .weight_decay = kDecay}), 1.95);
  // 2 * (1 - 0.1 * 0.25) = 1.95; 0.5 / (0.5 + 0.5) = 0.5
  EXPECT_DOUBLE_EQ(first_step({.kind = Kind::kAdamW, .epsilon = 0.5, .weight_decay = kDecay}), 1.9);
}

TEST(Optimizer, AdamWIsAdamWhenNothingDecays) {
  const std::vector<double> gradient = normals(33, 4);
  Trained<double> adam({.kind = OptimizerKind::kAdam}, normals(33, 5));
  Trained<double> adamw({.kind = OptimizerKind::kAdamW, .weight_decay = 0.1}, normals(33, 5));
  for (std::int64_t t = 1; t <= 10; ++t) {
    adam.step({.step = t, .learning_rate = 0.01}, gradient);
    adamw.step({.step = t, .learning_rate = 0.01, .decayed = false}, gradient);
  }
  EXPECT_EQ(adam.parameters, adamw.parameters);
}

TEST(Optimizer, AdamWKeepsDecayOutOfItsMoments) {
  const std::vector<double> gradient = normals(33, 4);
  Trained<double> adam({.kind = OptimizerKind::kAdam, .weight_decay = 0.1}, normals(33, 5));
  Trained<double> adamw({.kind = OptimizerKind::kAdamW, .weight_decay = 0.1}, normals(33, 5));
  Trained<double> plain({.kind = OptimizerKind::kAdam}, normals(33, 5));
  for (auto* trained : {&adam, &adamw, &plain}) {
    trained->step({.step = 1, .learning_rate = 0.01}, gradient);
  }
  EXPECT_EQ(adamw.states, plain.states);
  EXPECT_NE(adam.states, plain.states);
  EXPECT_NE(adam.parameters, adamw.parameters);
}

TEST(Optimizer, LeavesAdamAtRestWithoutGradients) {
  Trained<float> adam({.kind = OptimizerKind::kAdam}, {1.5F, -2.0F});
  const std::vector<float> zeros(2);
  adam.step({.step = 1, .learning_rate = 0.1}, zeros);
  EXPECT_EQ(adam.parameters, (std::vector<float>{1.5F, -2.0F}));
}

TEST(Optimizer, KeepsTheGradientOfAnInfiniteParameterWithoutDecay) {
  Trained<float> sgd({.kind = OptimizerKind::kMomentum}, {std::numeric_limits<float>::infinity()});
  const std::vector<float> gradient{1.0F};
  sgd.step({.step = 1, .learning_rate = 0.1}, gradient);
  EXPECT_EQ(sgd.states[0][0], 1.0F);
}

TEST(Optimizer, CorrectsTheBiasOfVeryLateSteps) {
  Trained<float> adam({.kind = OptimizerKind::kAdam}, {1.0F});
  const std::vector<float> gradient{1.0F};
  adam.step({.step = std::int64_t{1} << 40, .learning_rate = 0.1}, gradient);
  // Both corrections are 1: m = 0.1, v = 0.001.
  EXPECT_NEAR(adam.parameters[0], 1.0 - 0.1 * 0.1 / std::sqrt(0.001), 1e-6);
}

// All arrays of one update in one aligned buffer each, shifted by some elements.
struct Shifted {
  Shifted(const OptimizerSpec& optimizer, std::size_t size, std::size_t shift_by)
      : spec(optimizer), shift(shift_by) {
    const auto padded = static_cast<std::int64_t>(size + shift);
    for (std::uint64_t i = 0; i < 4; ++i) {
      arrays.emplace_back(padded);
      fill_normal(arrays.back().span().subspan(shift), PhiloxStream(9, i), 0.5F, 0.1F);
    }
  }

  void update_range(std::int64_t step, std::size_t begin, std::size_t end) {
    const auto part = [&](std::size_t i) {
      return arrays[i].span().subspan(shift + begin, end - begin);
    };
    std::vector<std::span<float>> states;
    for (int i = 0; i < num_state_arrays(spec.kind); ++i) {
      states.push_back(part(2 + static_cast<std::size_t>(i)));
    }
    update<float>(spec, {.step = step, .learning_rate = 0.01}, part(0), part(1), states);
  }

  std::vector<std::vector<float>> contents() const {
    std::vector<std::vector<float>> copies;
    for (const AlignedBuffer<float>& array : arrays) {
      const auto span = array.span().subspan(shift);
      copies.emplace_back(span.begin(), span.end());
    }
    return copies;
  }

  OptimizerSpec spec;
  std::size_t shift;
  std::vector<AlignedBuffer<float>> arrays;
};

constexpr std::size_t kCutSize = 133;

std::vector<std::vector<float>> updated_whole(const OptimizerSpec& spec) {
  Shifted whole(spec, kCutSize, 0);
  for (std::int64_t step = 1; step <= 3; ++step) {
    whole.update_range(step, 0, kCutSize);
  }
  return whole.contents();
}

TEST(Optimizer, GivesTheSameBitsForEveryCut) {
  for (const OptimizerSpec& spec : all_specs()) {
    const auto expected = updated_whole(spec);
    for (std::size_t cut = 0; cut <= kCutSize; ++cut) {
      Shifted parts(spec, kCutSize, 0);
      for (std::int64_t step = 1; step <= 3; ++step) {
        parts.update_range(step, cut, kCutSize);
        parts.update_range(step, 0, cut);
      }
      ASSERT_EQ(parts.contents(), expected) << describe(spec) << " cut at " << cut;
    }
  }
}

TEST(Optimizer, GivesTheSameBitsOneElementAtATime) {
  for (const OptimizerSpec& spec : all_specs()) {
    Shifted parts(spec, kCutSize, 0);
    for (std::int64_t step = 1; step <= 3; ++step) {
      for (std::size_t i = 0; i < kCutSize; ++i) {
        parts.update_range(step, i, i + 1);
      }
    }
    ASSERT_EQ(parts.contents(), updated_whole(spec)) << describe(spec);
  }
}

TEST(Optimizer, GivesTheSameBitsAtEveryAddress) {
  for (const OptimizerSpec& spec : all_specs()) {
    for (std::size_t shift = 1; shift < 16; ++shift) {
      Shifted shifted(spec, kCutSize, shift);
      for (std::int64_t step = 1; step <= 3; ++step) {
        shifted.update_range(step, 0, kCutSize);
      }
      ASSERT_EQ(shifted.contents(), updated_whole(spec)) << describe(spec) << " shift " << shift;
    }
  }
}

TEST(Optimizer, DeclaresItsState) {
  EXPECT_TRUE(state_arrays({.kind = OptimizerKind::kSgd}).empty());
  const auto adagrad = state_arrays({.kind = OptimizerKind::kAdagrad, .initial_accumulator = 0.25});
  ASSERT_EQ(adagrad.size(), 1U);
  EXPECT_EQ(adagrad[0].name, "accumulator");
  EXPECT_EQ(adagrad[0].initial_value, 0.25);
  for (const OptimizerKind kind : kAllKinds) {
    EXPECT_EQ(static_cast<int>(state_arrays({.kind = kind}).size()), num_state_arrays(kind));
  }
}

TEST(Optimizer, NamesTheKindsBothWays) {
  for (const OptimizerKind kind : kAllKinds) {
    EXPECT_EQ(optimizer_kind(name_of(kind)), kind);
  }
  try {
    optimizer_kind("momentun");
    FAIL() << "an unknown kind was taken";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"momentum\"?"));
  }
}

std::string problem_of_spec(const OptimizerSpec& spec) {
  return error_text<InvalidArgument>([&] { validate(spec); });
}

TEST(Optimizer, RefusesImpossibleOptions) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(problem_of_spec({}), "");
  EXPECT_EQ(problem_of_spec({.learning_rate = 0.0, .momentum = 0.0, .beta1 = 0.0, .beta2 = 0.0}),
            "");
  EXPECT_THAT(problem_of_spec({.learning_rate = -0.1}), HasSubstr("learning_rate: got -0.1"));
  EXPECT_THAT(problem_of_spec({.learning_rate = kInfinity}), HasSubstr("learning_rate: got inf"));
  EXPECT_THAT(problem_of_spec({.momentum = 1.0}), HasSubstr("expected 0 <= momentum < 1"));
  EXPECT_THAT(problem_of_spec({.momentum = kNan}), HasSubstr("momentum: got nan"));
  EXPECT_THAT(problem_of_spec({.beta1 = -0.1}), HasSubstr("expected 0 <= beta1 < 1"));
  EXPECT_THAT(problem_of_spec({.beta2 = 1.0}), HasSubstr("expected 0 <= beta2 < 1"));
  EXPECT_THAT(problem_of_spec({.epsilon = 0.0}), HasSubstr("epsilon: got 0"));
  EXPECT_THAT(problem_of_spec({.epsilon = 1e-300}), HasSubstr("epsilon: got 1e-300"));
  EXPECT_THAT(problem_of_spec({.weight_decay = -1.0}), HasSubstr("weight_decay: got -1"));
  EXPECT_THAT(problem_of_spec({.initial_accumulator = kNan}),
              HasSubstr("initial_accumulator: got nan"));
}

TEST(Optimizer, RefusesSpansThatDoNotFit) {
  std::vector<float> four(4);
  std::vector<float> three(3);
  std::vector<std::span<float>> states{four};
  const OptimizerSpec spec{.kind = OptimizerKind::kMomentum};
  const auto call = [&](std::int64_t step, std::span<float> gradient, std::span<float> parameters) {
    update<float>(spec, {.step = step, .learning_rate = 0.1}, gradient, parameters, states);
  };
  EXPECT_THROW(call(0, four, four), CheckFailure);
  EXPECT_THROW(call(1, three, four), CheckFailure);
  EXPECT_THROW(call(1, three, three), CheckFailure);  // the state has four
  states.clear();
  EXPECT_THROW(call(1, four, four), CheckFailure);
}

}  // namespace
}  // namespace superstep::paramserver
