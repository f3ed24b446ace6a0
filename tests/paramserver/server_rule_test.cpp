// Two steps of every rule against values worked out in double.

#include "paramserver/server_rule.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep::paramserver {
namespace {

struct AfterTwoSteps {
  float parameter = 1.0F;
  std::vector<float> states;
};

AfterTwoSteps two_steps(const ServerRule& rule) {
  std::vector<float> parameters = {1.0F};
  std::vector<std::vector<float>> values;
  std::vector<std::span<float>> states;
  for (const ServerState& state : state_arrays(rule)) {
    values.push_back({static_cast<float>(state.initial_value)});
  }
  for (std::vector<float>& value : values) {
    states.emplace_back(value);
  }
  for (const double mean : {0.5, -0.25}) {
    apply(rule, std::vector<double>{mean}, parameters, states);
  }
  AfterTwoSteps run{.parameter = parameters[0], .states = {}};
  for (const std::vector<float>& value : values) {
    run.states.push_back(value[0]);
  }
  return run;
}

constexpr double kTolerance = 4.0 * std::numeric_limits<float>::epsilon();

TEST(ServerRule, SgdAddsTheMean) {
  EXPECT_EQ(two_steps({}).parameter, 1.25F);
  EXPECT_EQ(two_steps({.learning_rate = 2.0}).parameter, 1.5F);
}

TEST(ServerRule, MomentumKeepsAVelocity) {
  const AfterTwoSteps run = two_steps({.kind = ServerRuleKind::kMomentum, .momentum = 0.5});
  // m: 0.5, then 0.25 - 0.25 = 0.
  EXPECT_EQ(run.parameter, 1.5F);
  EXPECT_EQ(run.states[0], 0.0F);
}

TEST(ServerRule, AdaptiveRulesFollowReddiEtAl) {
  constexpr double kTau = 0.1;
  const double m1 = 0.1 * 0.5;
  const double m2 = 0.9 * m1 + 0.1 * -0.25;
  const auto expected = [&](double v1, double v2) {
    return 1.0 + m1 / (std::sqrt(v1) + kTau) + m2 / (std::sqrt(v2) + kTau);
  };
  const auto run = [&](ServerRuleKind kind) {
    return two_steps({.kind = kind, .beta1 = 0.9, .beta2 = 0.75, .tau = kTau});
  };
  EXPECT_NEAR(run(ServerRuleKind::kAdagrad).parameter, expected(0.25, 0.3125), kTolerance);
  const double adam1 = 0.25 * 0.25;
  EXPECT_NEAR(run(ServerRuleKind::kAdam).parameter, expected(adam1, 0.75 * adam1 + 0.25 * 0.0625),
              kTolerance);
  // Yogi: v1 = 0 + (1 - b2) d^2; then v1 = d^2 exactly, so v2 = v1.
  EXPECT_NEAR(run(ServerRuleKind::kYogi).parameter, expected(0.0625, 0.0625), kTolerance);
}

TEST(ServerRule, RefusesFieldsOutOfRange) {
  EXPECT_THROW(validate(ServerRule{.momentum = 1.0}), InvalidArgument);
  EXPECT_THROW(validate(ServerRule{.learning_rate = std::nan("")}), InvalidArgument);
  EXPECT_THROW(validate(ServerRule{.tau = 0.0}), InvalidArgument);
  EXPECT_NO_THROW(validate(ServerRule{}));
}

}  // namespace
}  // namespace superstep::paramserver
