// Fused calls have the bits of the calls that they replace, and replace none that others read.
#include "kernels/fuse_calls.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "kernels/program.h"
#include "kernels/tape.h"
#include "tests/support/reference_heavy_ops.h"

namespace superstep::kernels {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::random_tensor;
using testing::same_bits;
using Tensors = std::vector<Tensor>;

struct PoolCase {
  const char* name;
  std::int64_t channels;  // 16: in channel blocks where there are some
  DType dtype;
  Shape image;  // H, W
  PoolOptions pool;
};

std::vector<PoolCase> pool_cases() {
  return {{"covered", 16, DType::kFloat32, {8, 12}, {.kernel = {2, 2}, .stride = {2, 2}}},
          {"with a rest", 16, DType::kFloat32, {7, 9}, {.kernel = {2, 2}, .stride = {2, 2}}},
          {"gaps", 16, DType::kFloat32, {8, 9}, {.kernel = {2, 1}, .stride = {3, 2}}},
          {"overlap",
           16,
           DType::kFloat32,
           {8, 9},
           {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1, 1, 1}}},
          {"planes", 3, DType::kFloat32, {8, 9}, {.kernel = {2, 2}, .stride = {2, 2}}},
          {"planes that overlap",
           3,
           DType::kFloat32,
           {8, 9},
           {.kernel = {3, 2}, .stride = {1, 1}, .padding = {1, 0, 1, 0}}},
          {"double", 4, DType::kFloat64, {6, 6}, {.kernel = {2, 2}, .stride = {2, 2}}}};
}

std::vector<TensorType> types_of(const PoolCase& c) {
  return {{c.dtype, {5, 2, c.image[0], c.image[1]}},
          {c.dtype, {c.channels, 2, 3, 3}},
          {c.dtype, {c.channels}}};
}

// Loss, maxima and the gradients of filter and bias.
Tensors step(const PoolCase& c, std::span<const Tensor> inputs) {
  Tape tape;
  const Tensor filter = tape.watch(inputs[1]);
  const Tensor bias = tape.watch(inputs[2]);
  const Tensor r = relu(bias_add(conv2d(inputs[0], filter, {.padding = {1, 1, 1, 1}}), bias));
  const Tensor y = max_pool(r, c.pool);
  const Tensor loss = sum(mul(y, y));
  Tensors outputs = tape.gradient(loss, {filter, bias});
  outputs.insert(outputs.begin(), {loss, y});
  return outputs;
}

void expect_same_bits(Program& program, const Tensors& inputs, const Tensors& want) {
  Tensors got;
  for (const TensorType& type : program.output_types()) {
    got.push_back(Tensor::full(type.shape, type.dtype, 123.0));
  }
  program.run(inputs, got);
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(same_bits(got[i], want[i])) << "output " << i << " of\n" << program.to_string();
  }
}

TEST(FuseCalls, PoolsWithTheBitsOfThreeCallsAndOfTwoBack) {
  for (const PoolCase& c : pool_cases()) {
    SCOPED_TRACE(c.name);
    const auto function = [&](std::span<const Tensor> in) { return step(c, in); };
    Program program = Program::record(types_of(c), function);
    EXPECT_THAT(program.to_string(), HasSubstr(" = bias_relu_max_pool("));
    EXPECT_THAT(program.to_string(), HasSubstr(" = relu_max_pool_backward("));
    for (const char* gone : {" = bias_add(", " = relu(", " = relu_backward(", " = max_pool("}) {
      EXPECT_THAT(program.to_string(), Not(HasSubstr(gone)));
    }
    for (const std::uint64_t seed : {1, 2, 3}) {
      Tensors inputs;
      for (const TensorType& type : types_of(c)) {
        inputs.push_back(random_tensor(type, seed * 100 + inputs.size(), -1.0, 1.0));
      }
      expect_same_bits(program, inputs, step(c, inputs));
    }
  }
}

// Ties of zeros, planes without a positive number, infinities and NaN.
TEST(FuseCalls, PoolsWhatIsNoOrdinaryNumber) {
  for (const PoolCase& c : pool_cases()) {
    if (c.dtype != DType::kFloat32) {
      continue;
    }
    SCOPED_TRACE(c.name);
    Program program =
        Program::record(types_of(c), [&](std::span<const Tensor> in) { return step(c, in); });
    for (const float special : {0.0F, -0.0F, std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity(), std::nanf("")}) {
      Tensors inputs;
      for (const TensorType& type : types_of(c)) {
        inputs.push_back(random_tensor(type, 7 + inputs.size(), -1.0, 0.0));
      }
      const std::span<float> x = inputs[0].mutable_data<float>();
      for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = i % 11 == 0 ? special : 0.0F;
      }
      inputs[2].mutable_data<float>()[0] = 0.0F;
      inputs[2].mutable_data<float>()[1] = -0.0F;
      expect_same_bits(program, inputs, step(c, inputs));
    }
  }
}

TEST(FuseCalls, LeavesApartWhatOthersRead) {
  const std::vector<TensorType> types = {{DType::kFloat32, {2, 16, 4, 4}}, {DType::kFloat32, {16}}};
  const PoolOptions pool{.kernel = {2, 2}, .stride = {2, 2}};
  const auto text_of = [&](const Program::Function& function) {
    return Program::record(types, function).to_string();
  };
  const char* fused = "bias_relu_max_pool";
  EXPECT_THAT(text_of([&](std::span<const Tensor> in) {
                return Tensors{max_pool(relu(bias_add(in[0], in[1])), pool)};
              }),
              HasSubstr(fused));
  EXPECT_THAT(text_of([&](std::span<const Tensor> in) {
                const Tensor r = relu(bias_add(in[0], in[1]));
                return Tensors{max_pool(r, pool), r};  // an output
              }),
              Not(HasSubstr(fused)));
  EXPECT_THAT(text_of([&](std::span<const Tensor> in) {
                const Tensor r = relu(bias_add(in[0], in[1]));
                return Tensors{max_pool(r, pool), flatten(r)};  // a view
              }),
              Not(HasSubstr(fused)));
  EXPECT_THAT(text_of([&](std::span<const Tensor> in) {
                const Tensor b = bias_add(in[0], in[1]);
                return Tensors{max_pool(relu(b), pool), exp(b)};
              }),
              Not(HasSubstr(fused)));
  EXPECT_THAT(text_of([&](std::span<const Tensor> in) {
                return Tensors{max_pool(relu(in[0]), pool), in[1]};
              }),
              Not(HasSubstr(fused)));
}

TEST(FuseCalls, LeavesWindowsApartThatAreTooLargeForATable) {
  const std::vector<TensorType> types = {{DType::kFloat32, {1, 1, 400, 400}},
                                         {DType::kFloat32, {1}}};
  const auto function = [](std::span<const Tensor> in) {
    return Tensors{max_pool(relu(bias_add(in[0], in[1])), {.kernel = {7, 7}, .stride = {1, 1}})};
  };
  EXPECT_THAT(Program::record(types, function).to_string(), Not(HasSubstr("bias_relu_max_pool")));
}

}  // namespace
}  // namespace superstep::kernels
