// First and second derivatives of every differentiable op against central differences in float64.
//
// With random weights w, f(inputs, w) = sum over the float64 outputs of <w_k, output_k>. First
// order: the tape's gradient of f. Second order: with random directions v, g(inputs, w) = sum over
// the inputs of <v_i, df/dinput_i>, and the outer tape's gradient of g, by the inputs and by w
// (which checks the derivatives of the backward ops in both of their arguments).
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/tape.h"
#include "tests/kernels/every_op.h"
#include "tests/support/reference_ops.h"

namespace superstep::kernels {
namespace {

constexpr double kStep = 1e-5;  // truncation about 1e-10, rounding about 1e-11 of the value
constexpr double kTolerance = 2e-7;

using Function = std::function<Tensor(std::span<const Tensor>)>;

bool is_floating(const Tensor& tensor) {
  return is_floating_point(tensor.dtype());
}

std::vector<OpInfo> differentiable_ops() {
  std::vector<OpInfo> ops;
  std::copy_if(op_table().begin(), op_table().end(), std::back_inserter(ops),
               [](const OpInfo& op) { return op.gradient != nullptr; });
  return ops;
}

// The inputs of one example followed by the weights of its outputs.
class Problem {
 public:
  Problem(const OpInfo& op, const ExampleCall& call) : op_(op), attributes_(call.attributes) {
    points_ = testing::example_inputs(call, DType::kFloat64, 5);
    num_inputs_ = points_.size();
    for (const TensorType& type : op.infer({types_of(points_), attributes_})) {
      points_.push_back(testing::random_tensor({DType::kFloat64, type.shape}, 77 + points_.size()));
    }
    for (std::size_t i = 0; i < num_inputs_; ++i) {
      directions_.push_back(testing::random_tensor({DType::kFloat64, points_[i].shape()}, 177 + i));
    }
  }

  const std::vector<Tensor>& points() const { return points_; }

  Tensor value(std::span<const Tensor> points) const {
    const std::vector<Tensor> outputs = apply(op_, points.subspan(0, num_inputs_), attributes_);
    Tensor total = Tensor::full({}, DType::kFloat64, 0.0);
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      if (outputs[k].dtype() == DType::kFloat64) {  // cast to float32 has no usable differences
        total = add(total, sum(mul(outputs[k], points[num_inputs_ + k])));
      }
    }
    return total;
  }

  // sum over the inputs of <direction, df / dinput>
  Tensor directional_derivative(std::span<const Tensor> points) const {
    Tape tape;
    std::vector<Tensor> watched(points.begin(), points.end());
    std::vector<Tensor> sources;
    for (std::size_t i = 0; i < num_inputs_; ++i) {
      if (is_floating(watched[i])) {
        watched[i] = tape.watch(watched[i]);
        sources.push_back(watched[i]);
      }
    }
    const std::vector<Tensor> gradients =
        tape.gradient(value(watched), sources, Unconnected::kZero);
    Tensor total = Tensor::full({}, DType::kFloat64, 0.0);
    std::size_t next = 0;
    for (std::size_t i = 0; i < num_inputs_; ++i) {
      if (is_floating(points[i])) {
        total = add(total, sum(mul(gradients[next++], directions_[i])));
      }
    }
    return total;
  }

 private:
  const OpInfo& op_;
  Attributes attributes_;
  std::vector<Tensor> points_;
  std::vector<Tensor> directions_;
  std::size_t num_inputs_ = 0;
};

Tensor copy_of(const Tensor& tensor) {
  return Tensor::from<double>(tensor.shape(), tensor.data<double>());
}

double value_at(const Function& function, std::span<const Tensor> points, std::size_t which,
                std::size_t element, double shift) {
  std::vector<Tensor> shifted(points.begin(), points.end());
  shifted[which] = copy_of(points[which]);
  shifted[which].mutable_data<double>()[element] += shift;
  return function(shifted).item<double>();
}

std::vector<Tensor> gradients_of(const Function& function, std::span<const Tensor> points) {
  Tape tape;
  std::vector<Tensor> watched(points.begin(), points.end());
  for (Tensor& point : watched) {
    point = is_floating(point) ? tape.watch(point) : point;
  }
  return tape.gradient(function(watched), watched, Unconnected::kZero);
}

void expect_derivatives(const Function& function, const Problem& problem, const char* what) {
  const std::vector<Tensor> gradients = gradients_of(function, problem.points());
  for (std::size_t i = 0; i < problem.points().size(); ++i) {
    if (!is_floating(problem.points()[i])) {
      continue;
    }
    const std::span<const double> got = gradients[i].data<double>();
    for (std::size_t k = 0; k < got.size(); ++k) {
      const double want = (value_at(function, problem.points(), i, k, kStep) -
                           value_at(function, problem.points(), i, k, -kStep)) /
                          (2.0 * kStep);
      ASSERT_NEAR(got[k], want, kTolerance * std::max(1.0, std::fabs(want)))
          << what << ", argument " << i << ", element " << k;
    }
  }
}

class DifferentiableOp : public ::testing::TestWithParam<OpInfo> {};

INSTANTIATE_TEST_SUITE_P(Table, DifferentiableOp, ::testing::ValuesIn(differentiable_ops()),
                         name_of_op);

TEST_P(DifferentiableOp, HasTheGradientOfCentralDifferences) {
  for (const ExampleCall& call : GetParam().examples()) {
    const Problem problem(GetParam(), call);
    expect_derivatives([&](std::span<const Tensor> p) { return problem.value(p); }, problem,
                       "first order");
  }
}

TEST_P(DifferentiableOp, HasTheSecondDerivativeOfCentralDifferences) {
  for (const ExampleCall& call : GetParam().examples()) {
    const Problem problem(GetParam(), call);
    expect_derivatives([&](std::span<const Tensor> p) { return problem.directional_derivative(p); },
                       problem, "second order");
  }
}

TEST_P(DifferentiableOp, GivesEachGradientAloneAsWithTheOthers) {
  for (const ExampleCall& call : GetParam().examples()) {
    const Problem problem(GetParam(), call);
    const std::vector<Tensor> together =
        gradients_of([&](std::span<const Tensor> p) { return problem.value(p); }, problem.points());
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      if (!is_floating(problem.points()[i])) {
        continue;
      }
      Tape tape;
      std::vector<Tensor> points = problem.points();
      points[i] = tape.watch(points[i]);
      const std::vector<Tensor> alone =
          tape.gradient(problem.value(points), {points[i]}, Unconnected::kZero);
      EXPECT_TRUE(testing::same_bits(alone[0], together[i])) << "input " << i;
    }
  }
}

}  // namespace
}  // namespace superstep::kernels
