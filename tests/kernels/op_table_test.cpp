// What holds for every op of the table, whatever it computes.
#include "kernels/op_table.h"

#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/kernels/every_op.h"
#include "tests/support/error_text.h"
#include "tests/support/reference_ops.h"

namespace superstep::kernels {
namespace {

using testing::error_text;
using ::testing::HasSubstr;

// Ops that move elements of any dtype.
const std::set<std::string_view>& ops_of_any_dtype() {
  static const std::set<std::string_view> kOps = {"batch_to_space", "broadcast_to", "cast",
                                                  "concat",         "pad",          "reshape",
                                                  "space_to_batch", "slice",        "transpose"};
  return kOps;
}

std::string message_of(const OpInfo& op, std::span<const TensorType> inputs,
                       const Attributes& attributes) {
  return error_text<InvalidArgument>([&] { op.infer({inputs, attributes}); });
}

class EveryOp : public ::testing::TestWithParam<OpInfo> {};

INSTANTIATE_TEST_SUITE_P(Table, EveryOp, ::testing::ValuesIn(op_table().begin(), op_table().end()),
                         name_of_op);

TEST_P(EveryOp, IsDifferentiableOrSaysWhyNot) {
  EXPECT_NE(GetParam().gradient == nullptr, GetParam().why_not_differentiable.empty());
}

TEST_P(EveryOp, HasAKernelExamplesAndAReference) {
  const OpInfo& op = GetParam();
  ASSERT_NE(op.infer, nullptr);
  ASSERT_NE(op.examples, nullptr);
  EXPECT_FALSE(op.examples().empty());
  EXPECT_NE(testing::reference_of(op.name), nullptr);
  EXPECT_EQ(op.kernels.empty(), op.is_view);
}

TEST_P(EveryOp, ExamplesAreComplete) {
  for (const ExampleCall& call : GetParam().examples()) {
    const OpSignature signature{call.inputs, call.attributes};
    EXPECT_EQ(call.ranges.size(), call.inputs.size());
    EXPECT_FALSE(GetParam().infer(signature).empty());
    EXPECT_GE(flops_of(GetParam(), signature), 0.0);
    for (const auto& [low, high] : call.ranges) {
      EXPECT_LT(low, high);
    }
  }
}

TEST_P(EveryOp, RefusesAWrongNumberOfInputs) {
  const OpInfo& op = GetParam();
  const ExampleCall call = op.examples()[0];
  EXPECT_THAT(message_of(op, {}, call.attributes), HasSubstr("[" + std::string(op.name) + "]"));
  if (op.name == "concat") {
    return;  // takes any number but none
  }
  std::vector<TensorType> one_more = call.inputs;
  one_more.push_back(call.inputs[0]);
  EXPECT_THAT(message_of(op, one_more, call.attributes),
              HasSubstr("number of inputs: got " + std::to_string(one_more.size())));
}

TEST_P(EveryOp, RefusesAWrongDtypeOfEachInput) {
  const OpInfo& op = GetParam();
  if (ops_of_any_dtype().contains(op.name)) {
    return;
  }
  const ExampleCall call = op.examples()[0];
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    for (const DType wrong : {DType::kBool, DType::kUint8}) {
      std::vector<TensorType> inputs = call.inputs;
      inputs[i].dtype = wrong;
      const std::string message = message_of(op, inputs, call.attributes);
      EXPECT_THAT(message, HasSubstr("[" + std::string(op.name) + "]")) << "input " << i;
      EXPECT_THAT(message, HasSubstr("expected")) << "input " << i;
      EXPECT_THAT(message, HasSubstr(std::string(name_of(wrong)))) << "input " << i;
    }
  }
}

TEST_P(EveryOp, RefusesAnUndefinedInput) {
  const OpInfo& op = GetParam();
  const ExampleCall call = op.examples()[0];
  const std::vector<Tensor> undefined(call.inputs.size());
  EXPECT_THROW(apply(op, undefined, call.attributes), InvalidArgument);
}

TEST(OpTable, IsSortedByNameWithoutDuplicates) {
  for (std::size_t i = 1; i < op_table().size(); ++i) {
    EXPECT_LT(op_table()[i - 1].name, op_table()[i].name);
  }
}

TEST(OpTable, FindsEveryOpByName) {
  for (const OpInfo& op : op_table()) {
    EXPECT_EQ(&find_op(op.name), &op);
  }
}

TEST(OpTable, SuggestsTheNearestName) {
  try {
    find_op("matmull");
    FAIL() << "no exception";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("got \"matmull\""));
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"matmul\"?"));
  }
}

TEST(OpTable, NamesTheBackendThatDoesNotServeACall) {
  const Tensor x = Tensor::zeros({2}, DType::kFloat32);
  EXPECT_THROW(apply_with(Backend::kOneDnn, find_op("neg"), {&x, 1}), InvalidArgument);
  EXPECT_EQ(apply_with(Backend::kReference, find_op("neg"), {&x, 1}).size(), 1U);
}

}  // namespace
}  // namespace superstep::kernels
