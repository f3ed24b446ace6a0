#include "kernels/program.h"

#include <array>
#include <functional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/tape.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/error_text.h"
#include "tests/support/reference_heavy_ops.h"

namespace superstep::kernels {
namespace {

using DType::kFloat32;
using testing::error_text;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::same_bits;
using Tensors = std::vector<Tensor>;

std::vector<Tensor> random_inputs(std::span<const TensorType> types, std::uint64_t seed) {
  Tensors inputs;
  for (const TensorType& type : types) {
    const double high = is_floating_point(type.dtype) ? 1.0 : 10.0;
    inputs.push_back(random_tensor(type, seed + inputs.size(),
                                   is_floating_point(type.dtype) ? -1.0 : 0.0, high));
  }
  return inputs;
}

// Garbage, so that an output nobody writes shows.
Tensors fresh_outputs(const Program& program) {
  Tensors outputs;
  for (const TensorType& type : program.output_types()) {
    outputs.push_back(Tensor::full(type.shape, type.dtype, 123.0));
  }
  return outputs;
}

void expect_same_bits_as_eager(Program& program, const Program::Function& function) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const Tensors inputs = random_inputs(program.input_types(), seed * 1000);
    const Tensors want = function(inputs);
    Tensors got = fresh_outputs(program);
    program.run(inputs, got);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_TRUE(same_bits(got[i], want[i])) << "output " << i << " of\n" << program.to_string();
    }
  }
}

// A step of the 2NN: x (N, 20), labels (N), weights and biases -> loss and the gradients.
const std::vector<TensorType>& dense_types() {
  static const std::vector<TensorType> kTypes = {{kFloat32, {16, 20}}, {DType::kInt64, {16}},
                                                 {kFloat32, {20, 32}}, {kFloat32, {32}},
                                                 {kFloat32, {32, 10}}, {kFloat32, {10}}};
  return kTypes;
}

Tensors dense_step(std::span<const Tensor> inputs) {
  Tape tape;
  Tensors parameters;
  for (const Tensor& parameter : inputs.subspan(2)) {
    parameters.push_back(tape.watch(parameter));
  }
  const Tensor hidden = tanh(bias_add(matmul(inputs[0], parameters[0]), parameters[1]));
  const Tensor logits = bias_add(matmul(hidden, parameters[2]), parameters[3]);
  const Tensor loss = sum(cross_entropy(logits, inputs[1]));
  Tensors outputs = tape.gradient(loss, parameters);
  outputs.insert(outputs.begin(), loss);
  return outputs;
}

const std::vector<TensorType>& image_types() {
  static const std::vector<TensorType> kTypes = {{kFloat32, {4, 2, 8, 8}}, {kFloat32, {3, 2, 3, 3}},
                                                 {kFloat32, {3}},          {kFloat32, {3}},
                                                 {DType::kInt64, {4}},     {DType::kInt64, {2}}};
  return kTypes;
}

Tensors image_step(std::span<const Tensor> inputs) {
  Tape tape;
  const Tensor filter = tape.watch(inputs[1]);
  const Tensor gamma = tape.watch(inputs[2]);
  const Tensor y = conv2d(inputs[0], filter, {.padding = {1, 1, 1, 1}});
  const BatchNormOutputs norm = batch_norm(y, gamma, inputs[3]);
  const Tensor pooled = max_pool(relu(norm.y));
  const Tensor dropped = dropout(flatten(pooled), inputs[4], inputs[5], {.rate = 0.5});
  const Tensor loss = sum(square(dropped));
  Tensors outputs = tape.gradient(loss, {filter, gamma});
  outputs.push_back(norm.mean);
  outputs.push_back(loss);
  return outputs;
}

TEST(Program, RunsADenseStepWithTheBitsOfEagerExecution) {
  Program program = Program::record(dense_types(), dense_step);
  expect_same_bits_as_eager(program, dense_step);
}

TEST(Program, RunsAnImageStepWithTheBitsOfEagerExecution) {
  Program program = Program::record(image_types(), image_step);
  expect_same_bits_as_eager(program, image_step);
}

// Images whose channels fill whole blocks, through every op that works on blocks and some that do
// not; planes of odd sizes, a window that overlaps and reaches into the padding, outputs in the
// middle.
const std::vector<TensorType>& blocked_types() {
  static const std::vector<TensorType> kTypes = {
      {kFloat32, {3, 1, 11, 9}},  {kFloat32, {16, 1, 3, 3}}, {kFloat32, {16}},
      {kFloat32, {32, 16, 3, 3}}, {kFloat32, {32}},          {kFloat32, {32}},
      {kFloat32, {32, 32, 3, 3}}, {kFloat32, {32 * 6, 10}},  {DType::kInt64, {3}}};
  return kTypes;
}

Tensors blocked_step(std::span<const Tensor> inputs) {
  Tape tape;
  Tensors p;
  for (const Tensor& parameter : inputs.subspan(1, 7)) {
    p.push_back(tape.watch(parameter));
  }
  const Conv2dOptions same{.padding = {1, 1, 1, 1}};
  const Tensor first = relu(bias_add(conv2d(inputs[0], p[0], same), p[1]));
  const Tensor pooled =
      max_pool(first, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1, 1, 1}});
  const BatchNormOutputs norm = batch_norm(conv2d(pooled, p[2], same), p[3], p[4]);
  const Tensor shortcut = pad(pooled, {.before = {0, 8, 0, 0}, .after = {0, 8, 0, 0}});
  const Tensor sum_of_both = add(tanh(norm.y), shortcut);
  const Tensor last =
      batch_norm_inference(conv2d(sum_of_both, p[5], same), p[3], p[4], norm.mean, norm.variance);
  const Tensor means = average_pool(last, {.kernel = {2, 2}, .stride = {2, 2}});
  const Tensor narrow = matmul(flatten(means), p[6]);
  // The second reader keeps relu and max_pool apart (kernels/fuse_calls.h).
  const Tensor all_means = add(sum(global_average_pool(last)), sum(global_average_pool(first)));
  const Tensor loss = add(sum(cross_entropy(narrow, inputs[8])), all_means);
  Tensors outputs = tape.gradient(loss, p);
  outputs.insert(outputs.begin(), {loss, sum_of_both, norm.mean, norm.variance});
  return outputs;
}

TEST(Program, KeepsImagesInChannelBlocksWithTheBitsOfEagerExecution) {
  Program program = Program::record(blocked_types(), blocked_step);
  expect_same_bits_as_eager(program, blocked_step);
  const OpInfo& convolution = find_op("conv2d");
  const std::vector<TensorType> types(blocked_types().begin(), blocked_types().begin() + 2);
  const Attributes attributes{{"padding", std::vector<std::int64_t>{1, 1, 1, 1}}};
  if (kChannelBlock > 0 && has_kernel(convolution, {types, attributes}, Backend::kOneDnn)) {
    const std::string text = program.to_string();
    for (const char* op :
         {"conv2d", "bias_add", "bias_add_backward", "relu", "relu_backward", "max_pool",
          "max_pool_backward", "batch_norm", "batch_norm_backward", "tanh", "average_pool",
          "average_pool_backward", "global_average_pool"}) {
      EXPECT_THAT(
          text, ::testing::ContainsRegex(std::string(" = ") + op + "\\([^\n]*, channel blocks\\]"));
    }
    EXPECT_THAT(text, HasSubstr("to_plain("));
    EXPECT_THAT(text, HasSubstr("to_channel_blocks("));
  }
}

TEST(Program, RecordsEveryOpOfTheTable) {
  for (const OpInfo& op : op_table()) {
    for (const ExampleCall& call : op.examples()) {
      const Tensors inputs = testing::example_inputs(call, kFloat32, 3);
      const Program::Function function = [&](std::span<const Tensor> in) {
        return apply(op, in, call.attributes);
      };
      const Tensors want = function(inputs);
      Program program = Program::record(types_of(inputs), function);
      Tensors got = fresh_outputs(program);
      program.run(inputs, got);
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_TRUE(same_bits(got[i], want[i])) << op.name << " output " << i;
      }
    }
  }
}

TEST(Program, RecordsTheGradientOfAGradient) {
  const Program::Function function = [](std::span<const Tensor> inputs) {
    Tape outer;
    const Tensor x = outer.watch(inputs[0]);
    Tape inner;
    const Tensor both = inner.watch(x);
    const Tensor first = inner.gradient(sum(tanh(both)), {both})[0];
    return Tensors{first, outer.gradient(sum(square(first)), {x})[0]};
  };
  const std::vector<TensorType> types = {{kFloat32, {7}}};
  Program program = Program::record(types, function);
  expect_same_bits_as_eager(program, function);
}

TEST(Program, RecordsCustomGradientsAndStoppedOnes) {
  const Program::Function function = [](std::span<const Tensor> inputs) {
    Tape tape;
    const Tensor x = tape.watch(inputs[0]);
    const Tensor y = custom_gradient(
        {&x, 1}, [](std::span<const Tensor> in) { return Tensors{exp(in[0])}; },
        [](std::span<const Tensor> in, std::span<const Tensor> out, std::span<const Tensor> dy) {
          return Tensors{mul(dy[0], add(in[0], out[0]))};
        })[0];
    const Tensor loss = sum(mul(y, stop_gradient(square(x))));
    return Tensors{loss, tape.gradient(loss, {x})[0]};
  };
  const std::vector<TensorType> types = {{kFloat32, {9}}};
  Program program = Program::record(types, function);
  expect_same_bits_as_eager(program, function);
}

TEST(Program, AllocatesNothingWhenItRuns) {
  const Program::Function function = [](std::span<const Tensor> inputs) {
    Tape tape;
    const Tensor x = tape.watch(inputs[0]);
    const Tensor moved =
        transpose(slice(pad(x, {.before = {1, 0}, .after = {0, 1}}), {0, 1}, {5, 4}), {1, 0});
    const std::array<Tensor, 2> halves = {moved, neg(moved)};
    const Tensor joined = concat(halves, 1);
    const Tensor scaled = mul(softmax(joined), sum(joined, {.axes = {0}, .keep_dims = true}));
    const Tensor rows = embedding_lookup(scaled, inputs[1]);
    const Tensor loss =
        mean(add(sigmoid(rows), dropout(rows, inputs[1], inputs[2], {.rate = 0.25})));
    return Tensors{loss, tape.gradient(loss, {x})[0], reshape(x, {5, 4}), x};
  };
  const std::vector<TensorType> types = {
      {kFloat32, {4, 5}}, {DType::kInt64, {3}}, {DType::kInt64, {2}}};
  Program program = Program::record(types, function);
  Tensors inputs = random_inputs(types, 5);
  inputs[1] = Tensor::from<std::int64_t>({3}, std::vector<std::int64_t>{0, 3, 1});
  Tensors outputs = fresh_outputs(program);
  const std::int64_t before = testing::allocations_of_this_thread();
  program.run(inputs, outputs);
  EXPECT_EQ(testing::allocations_of_this_thread(), before);
  const Tensors want = function(inputs);
  EXPECT_GT(testing::allocations_of_this_thread(), before);  // the counter counts
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_TRUE(same_bits(outputs[i], want[i])) << "output " << i;
  }
}

TEST(Program, AllocatesNothingInADenseStep) {
  Program program = Program::record(dense_types(), dense_step);
  const Tensors inputs = random_inputs(dense_types(), 5);
  Tensors outputs = fresh_outputs(program);
  program.run(inputs, outputs);  // libraries may set themselves up in the first run
  const std::int64_t before = testing::allocations_of_this_thread();
  program.run(inputs, outputs);
  EXPECT_EQ(testing::allocations_of_this_thread(), before);
}

TEST(Program, DropsOpsNoOutputDependsOn) {
  const std::vector<TensorType> types = {{kFloat32, {4}}};
  const Program program = Program::record(types, [](std::span<const Tensor> in) {
    exp(square(in[0]));  // not used
    return Tensors{neg(tanh(in[0]))};
  });
  EXPECT_EQ(program.num_ops(), 2);
  EXPECT_THAT(program.to_string(), HasSubstr("tanh"));
  EXPECT_THAT(program.to_string(), Not(HasSubstr("exp")));
}

TEST(Program, ComputesConstantsOnceWhenRecording) {
  const std::vector<TensorType> types = {{kFloat32, {4}}};
  const Tensor captured = Tensor::full({4}, kFloat32, 3.0);
  const Program::Function function = [&](std::span<const Tensor> in) {
    return Tensors{mul(in[0], square(captured)), square(captured)};
  };
  Program program = Program::record(types, function);
  EXPECT_EQ(program.num_ops(), 1);
  EXPECT_EQ(program.constant_bytes(), 16);
  expect_same_bits_as_eager(program, function);
}

TEST(Program, CopiesOutputsThatAreInputsViewsOrRepeated) {
  const std::vector<TensorType> types = {{kFloat32, {2, 3}}};
  const Program::Function function = [](std::span<const Tensor> in) {
    const Tensor y = exp(in[0]);
    return Tensors{in[0], y, reshape(y, {6}), y, reshape(in[0], {3, 2}), neg(reshape(y, {3, 2}))};
  };
  Program program = Program::record(types, function);
  expect_same_bits_as_eager(program, function);
  EXPECT_EQ(program.arena_bytes(), 0);  // kernels write straight into the caller's memory
}

TEST(Program, NeedsOnlyTheArenaThatLivenessAsksFor) {
  const std::vector<TensorType> types = {{kFloat32, {1024}}};
  const Program chain = Program::record(types, [](std::span<const Tensor> in) {
    Tensor x = in[0];
    for (int i = 0; i < 20; ++i) {
      x = tanh(x);
    }
    return Tensors{x};
  });
  EXPECT_EQ(chain.num_ops(), 20);
  EXPECT_EQ(chain.arena_bytes(), 4096);  // each overwrites the one before

  const std::vector<TensorType> rows = {{kFloat32, {32, 32}}};
  const Program flips = Program::record(rows, [](std::span<const Tensor> in) {
    Tensor x = in[0];
    for (int i = 0; i < 20; ++i) {
      x = transpose(x, {1, 0});
    }
    return Tensors{x};
  });
  EXPECT_EQ(flips.arena_bytes(), 2 * 4096);  // one being read, one being written

  for (const Program& program :
       {Program::record(dense_types(), dense_step), Program::record(image_types(), image_step)}) {
    EXPECT_GE(program.arena_bytes(), program.liveness_bound_bytes());
    EXPECT_LE(program.arena_bytes(), program.liveness_bound_bytes() * 11 / 10);
  }
}

TEST(Program, OverwritesOnlyWhatNobodyReadsAgain) {
  const std::vector<TensorType> types = {{kFloat32, {1024}}};
  const Program::Function function = [](std::span<const Tensor> in) {
    const Tensor a = tanh(in[0]);
    const Tensor b = exp(a);     // a is read again
    const Tensor c = neg(b);     // b is not
    const Tensor d = mul(c, c);  // both operands die at once
    return Tensors{add(a, d), neg(d)};
  };
  Program program = Program::record(types, function);
  expect_same_bits_as_eager(program, function);
  EXPECT_EQ(program.arena_bytes(), 2 * 4096);
}

TEST(Program, MayRunAgainAfterAKernelThrew) {
  const std::vector<TensorType> types = {{kFloat32, {2, 3}}, {DType::kInt64, {2}}};
  const Program::Function function = [](std::span<const Tensor> in) {
    return Tensors{cross_entropy(in[0], in[1])};
  };
  Program program = Program::record(types, function);
  const Tensor logits = random_tensor(types[0], 3);
  Tensors outputs = fresh_outputs(program);
  const Tensors bad = {logits, Tensor::from<std::int64_t>({2}, std::vector<std::int64_t>{0, 3})};
  EXPECT_THROW(program.run(bad, outputs), InvalidArgument);
  const Tensors good = {logits, Tensor::from<std::int64_t>({2}, std::vector<std::int64_t>{0, 2})};
  program.run(good, outputs);
  EXPECT_TRUE(same_bits(outputs[0], function(good)[0]));
}

TEST(Program, RefusesOtherTypesThanItWasRecordedFor) {
  const std::vector<TensorType> types = {{kFloat32, {4}}};
  Program program =
      Program::record(types, [](std::span<const Tensor> in) { return Tensors{neg(in[0])}; });
  Tensors outputs = fresh_outputs(program);
  const Tensors wrong = {Tensor::zeros({5}, kFloat32)};
  EXPECT_THAT(error_text<InvalidArgument>([&] { program.run(wrong, outputs); }),
              HasSubstr("[Program::run] input 0: got float32 (5), expected float32 (4)"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { program.run({}, outputs); }),
              HasSubstr("number of inputs: got 0, expected 1"));
  const Tensors right = {Tensor::zeros({4}, kFloat32)};
  Tensors undefined(1);
  EXPECT_THAT(error_text<InvalidArgument>([&] { program.run(right, undefined); }),
              HasSubstr("output 0: got an undefined tensor"));
}

void record_with(const std::function<Tensor(const Tensor&)>& function) {
  const std::vector<TensorType> types = {{kFloat32, {1}}};
  Program::record(types, [&](std::span<const Tensor> in) { return Tensors{function(in[0])}; });
}

TEST(Program, RefusesWhatItCouldNotRecord) {
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                record_with([](const Tensor& x) { return neg(exp(x).viewed_as({1, 1})); });
              }),
              HasSubstr("[Tensor::viewed_as] tensor: got one that a Program is recording"));
  EXPECT_THAT(error_text<InvalidArgument>(
                  [&] { record_with([](const Tensor& x) { return x.detached(); }); }),
              HasSubstr("[Tensor::detached]"));
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                record_with([](const Tensor& x) { return x.item<float>() > 0 ? neg(x) : x; });
              }),
              HasSubstr("[Tensor::item]"));
  EXPECT_THAT(
      error_text<InvalidArgument>([&] { record_with([](const Tensor&) { return Tensor(); }); }),
      HasSubstr("output 0: got an undefined tensor"));
}

TEST(Program, RefusesMemoryOfARecordedTensorThatLostItsLinks) {
  const auto borrow = [](Tensor x) {
    return Tensor::borrow(x.shape(), x.dtype(), x.mutable_bytes());
  };
  EXPECT_THAT(error_text<InvalidArgument>([&] { record_with(borrow); }),
              HasSubstr("output 0: got a recorded tensor without its links"));
  EXPECT_THAT(error_text<InvalidArgument>(
                  [&] { record_with([&](const Tensor& x) { return mul(x, borrow(x)); }); }),
              HasSubstr("input 1 of mul: got a recorded tensor without its links"));
}

TEST(Program, CountsFlopsAndDescribesItself) {
  const std::vector<TensorType> types = {{kFloat32, {4, 8}}, {kFloat32, {8, 2}}};
  const Program program = Program::record(
      types, [](std::span<const Tensor> in) { return Tensors{relu(matmul(in[0], in[1]))}; });
  EXPECT_DOUBLE_EQ(program.flops(), 2.0 * 4 * 8 * 2 + 4 * 2);
  EXPECT_THAT(program.to_string(), HasSubstr("%2 float32 (4, 2) = matmul(%0, %1)"));
}

}  // namespace
}  // namespace superstep::kernels
