// Speed of every op: the examples of the op table, and the shapes of the models Superstep trains,
// both in float32 where the op takes it.
//
//   build/release/kernels/kernels_ops_benchmark --benchmark_filter='model/conv2d.*'
//
// One kernel is prepared per signature and backend and run on one thread, as a recorded step does.
// The name reads group/op/backend/what; FLOP/s counts the op's own flops, bytes_per_second its
// tensors. State machine and compiler beside the numbers; compare ratios from one run.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/philox.h"
#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/threads.h"

namespace superstep::kernels {
namespace {

struct Call {
  std::string what;
  std::string_view op;
  std::vector<TensorType> inputs;
  Attributes attributes;
  std::vector<std::pair<double, double>> ranges;
};

Tensor random_tensor(const TensorType& type, std::pair<double, double> range, std::uint64_t seed) {
  Tensor tensor = Tensor::uninitialized(type.shape, type.dtype);
  PhiloxStream stream(seed, stream_id("ops_benchmark"));
  dispatch_any(type.dtype, [&]<typename T>() {
    for (T& value : tensor.mutable_data<T>()) {
      value = static_cast<T>(range.first + (range.second - range.first) * stream.uniform_double());
    }
  });
  return tensor;
}

void run(benchmark::State& state, const Call& call, const KernelEntry& entry) {
  set_team_size(1);
  const OpInfo& op = find_op(call.op);
  const OpSignature signature{call.inputs, call.attributes};
  std::int64_t bytes = 0;
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const auto range = i < call.ranges.size() ? call.ranges[i] : std::pair{-1.0, 1.0};
    inputs.push_back(random_tensor(call.inputs[i], range, i));
    bytes += inputs.back().num_bytes();
  }
  std::vector<Tensor> outputs;
  for (const TensorType& type : op.infer(signature)) {
    outputs.push_back(Tensor::zeros(type.shape, type.dtype));
    bytes += outputs.back().num_bytes();
  }
  const std::unique_ptr<Kernel> kernel = entry.make(signature);
  Tensor workspace = Tensor::zeros(Shape{kernel->workspace_bytes()}, DType::kUint8);
  const std::span<std::byte> scratch(workspace.mutable_bytes(),
                                     static_cast<std::size_t>(workspace.num_bytes()));
  for (auto _ : state) {
    kernel->run(inputs, outputs, scratch);
    benchmark::ClobberMemory();
  }
  state.counters["FLOP/s"] =
      benchmark::Counter(flops_of(op, signature), benchmark::Counter::kIsIterationInvariantRate);
  state.SetBytesProcessed(state.iterations() * bytes);
}

// Once per backend that serves the call.
void add(const std::string& group, const Call& call) {
  for (const KernelEntry& entry : find_op(call.op).kernels) {
    if (entry.supports == nullptr || entry.supports({call.inputs, call.attributes})) {
      const std::string name =
          fmt::format("{}/{}/{}/{}", group, call.op, name_of(entry.backend), call.what);
      benchmark::RegisterBenchmark(
          name.c_str(), [call, &entry](benchmark::State& state) { run(state, call, entry); });
    }
  }
}

// The examples are written for the gradient check, which is done in float64.
std::vector<TensorType> in_float32(std::vector<TensorType> types) {
  for (TensorType& type : types) {
    type.dtype = type.dtype == DType::kFloat64 ? DType::kFloat32 : type.dtype;
  }
  return types;
}

bool accepts(const OpInfo& op, const std::vector<TensorType>& inputs,
             const Attributes& attributes) {
  try {
    op.infer({inputs, attributes});
    return true;
  } catch (const InvalidArgument&) {
    return false;
  }
}

void add_examples() {
  for (const OpInfo& op : op_table()) {
    int index = 0;
    if (op.is_view) {
      continue;
    }
    for (ExampleCall& example : op.examples()) {
      std::vector<TensorType> inputs = in_float32(example.inputs);
      if (!accepts(op, inputs, example.attributes)) {
        inputs = std::move(example.inputs);
      }
      add("example", {fmt::format("{}", index++), op.name, std::move(inputs),
                      std::move(example.attributes), std::move(example.ranges)});
    }
  }
}

using Sizes = std::vector<std::int64_t>;

TensorType floats(const Shape& shape) {
  return {DType::kFloat32, shape};
}

// "Same" padding of a square filter with stride 1 or 2.
void add_convolution(const std::string& name, std::int64_t batch, std::int64_t in,
                     std::int64_t size, std::int64_t out, std::int64_t kernel,
                     std::int64_t stride) {
  const std::int64_t total = std::max<std::int64_t>(0, kernel - stride);
  const Sizes strides = {stride, stride};
  const Sizes padding = {total / 2, total - total / 2, total / 2, total - total / 2};
  const Shape x{batch, in, size, size};
  const Shape filter{out, in, kernel, kernel};
  const Shape y{batch, out, size / stride, size / stride};
  const std::string what = fmt::format("{}_batch{}", name, batch);
  add("model", {what,
                "conv2d",
                {floats(x), floats(filter)},
                {{"stride", strides}, {"padding", padding}},
                {}});
  add("model",
      {what,
       "conv2d_backward_input",
       {floats(y), floats(filter)},
       {{"stride", strides}, {"padding", padding}, {"input_shape", Sizes{batch, in, size, size}}},
       {}});
  add("model", {what,
                "conv2d_backward_filter",
                {floats(x), floats(y)},
                {{"stride", strides},
                 {"padding", padding},
                 {"filter_shape", Sizes{out, in, kernel, kernel}}},
                {}});
}

void add_dense(const std::string& name, std::int64_t batch, std::int64_t in, std::int64_t out) {
  const std::string what = fmt::format("{}_batch{}", name, batch);
  const auto product = [&](const char* pass, const Shape& a, const Shape& b, bool ta, bool tb) {
    add("model", {what + pass,
                  "matmul",
                  {floats(a), floats(b)},
                  {{"transpose_a", ta}, {"transpose_b", tb}},
                  {}});
  };
  product("_forward", Shape{batch, in}, Shape{in, out}, false, false);
  product("_backward_input", Shape{batch, out}, Shape{in, out}, false, true);
  product("_backward_weight", Shape{batch, in}, Shape{batch, out}, true, false);
}

// What surrounds a convolution with `channels` outputs of size x size.
void add_around_convolution(const std::string& name, std::int64_t batch, std::int64_t channels,
                            std::int64_t size) {
  const Shape x{batch, channels, size, size};
  const Shape half{batch, channels, size / 2, size / 2};
  const Shape c{channels};
  const Sizes image = {batch, channels, size, size};
  const std::string what = fmt::format("{}_batch{}", name, batch);
  const double plane = static_cast<double>(size * size);
  add("model", {what, "bias_add", {floats(x), floats(c)}, {}, {}});
  add("model", {what, "bias_add_backward", {floats(x)}, {}, {}});
  add("model", {what, "relu", {floats(x)}, {}, {}});
  add("model", {what, "relu_backward", {floats(x), floats(x)}, {}, {}});
  add("model",
      {what, "max_pool", {floats(x)}, {{"kernel", Sizes{2, 2}}, {"stride", Sizes{2, 2}}}, {}});
  add("model", {what,
                "max_pool_backward",
                {floats(half), {DType::kInt32, half}},
                {{"input_shape", image}},
                {{-1.0, 1.0}, {0.0, plane}}});
  add("model",
      {what, "average_pool", {floats(x)}, {{"kernel", Sizes{2, 2}}, {"stride", Sizes{2, 2}}}, {}});
  add("model", {what, "global_average_pool", {floats(x)}, {}, {}});
  add("model", {what, "batch_norm", {floats(x), floats(c), floats(c)}, {{"epsilon", 1e-5}}, {}});
  add("model", {what,
                "batch_norm_backward",
                {floats(x), floats(x), floats(c), floats(c), floats(c)},
                {{"epsilon", 1e-5}},
                {{-1, 1}, {-1, 1}, {-1, 1}, {-1, 1}, {0.5, 1.5}}});
}

void add_loss(const std::string& name, std::int64_t batch, std::int64_t classes) {
  const std::string what = fmt::format("{}_batch{}", name, batch);
  const Shape logits{batch, classes};
  const TensorType labels{DType::kInt32, Shape{batch}};
  const std::pair<double, double> any{-3.0, 3.0};
  const std::pair<double, double> a_class{0.0, static_cast<double>(classes)};
  add("model", {what, "cross_entropy", {floats(logits), labels}, {}, {any, a_class}});
  add("model", {what,
                "cross_entropy_backward",
                {floats(Shape{batch}), floats(logits), labels},
                {},
                {any, any, a_class}});
}

void add_resnet20(std::int64_t batch) {
  add_convolution("resnet20_stem", batch, 3, 32, 16, 3, 1);
  add_convolution("resnet20_stage1", batch, 16, 32, 16, 3, 1);
  add_convolution("resnet20_down2", batch, 16, 32, 32, 3, 2);
  add_convolution("resnet20_stage2", batch, 32, 16, 32, 3, 1);
  add_convolution("resnet20_down3", batch, 32, 16, 64, 3, 2);
  add_convolution("resnet20_stage3", batch, 64, 8, 64, 3, 1);
  add_around_convolution("resnet20_stage1", batch, 16, 32);
  add_around_convolution("resnet20_stage2", batch, 32, 16);
  add_around_convolution("resnet20_stage3", batch, 64, 8);
  add_dense("resnet20_fc", batch, 64, 10);
}

void add_models() {
  for (const std::int64_t batch : {16, 64}) {
    add_convolution("cnn_conv1", batch, 1, 28, 32, 5, 1);
    add_convolution("cnn_conv2", batch, 32, 14, 64, 5, 1);
    add_around_convolution("cnn_conv1", batch, 32, 28);
    add_around_convolution("cnn_conv2", batch, 64, 14);
    add_dense("cnn_fc1", batch, 3136, 512);
    add_dense("cnn_fc2", batch, 512, 10);
    add_dense("2nn_fc1", batch, 784, 200);
    add_dense("2nn_fc2", batch, 200, 200);
    add_dense("2nn_fc3", batch, 200, 10);
    add_loss("10_classes", batch, 10);
    add_resnet20(batch);
  }
}

}  // namespace
}  // namespace superstep::kernels

int main(int argc, char** argv) {
  superstep::kernels::add_examples();
  superstep::kernels::add_models();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 2;
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
