#include "kernels/space_to_batch_ops.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "kernels/dispatch.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "kernels/signature_checks.h"

namespace superstep::kernels {
namespace {

struct Block {
  std::int64_t height = 1;
  std::int64_t width = 1;
  std::int64_t top = 0;
  std::int64_t bottom = 0;
  std::int64_t left = 0;
  std::int64_t right = 0;
};

Block block_of(std::string_view op, const Attributes& attributes) {
  const std::vector<std::int64_t>& block = attributes.integers("block");
  const std::vector<std::int64_t>& padding = attributes.integers("padding");
  expect_values(op, "block", block, 2, 1);
  expect_values(op, "padding", padding, 4, 0);
  return {block[0], block[1], padding[0], padding[1], padding[2], padding[3]};
}

std::vector<TensorType> infer_space_to_batch(const OpSignature& signature) {
  expect_num_inputs("space_to_batch", signature, 1);
  const TensorType& x = signature.inputs[0];
  expect_rank("space_to_batch", "x", x, 4);
  const Block block = block_of("space_to_batch", signature.attributes);
  const std::int64_t height = x.shape[2] + block.top + block.bottom;
  const std::int64_t width = x.shape[3] + block.left + block.right;
  if (height % block.height != 0 || width % block.width != 0) {
    fail_argument("space_to_batch", "x", fmt::format("{} x {} pixels with padding", height, width),
                  fmt::format("multiples of the block {} x {}", block.height, block.width));
  }
  return {{x.dtype,
           {x.shape[0] * block.height * block.width, x.shape[1], height / block.height,
            width / block.width}}};
}

std::vector<TensorType> infer_batch_to_space(const OpSignature& signature) {
  expect_num_inputs("batch_to_space", signature, 1);
  const TensorType& x = signature.inputs[0];
  expect_rank("batch_to_space", "x", x, 4);
  const Block block = block_of("batch_to_space", signature.attributes);
  const std::int64_t phases = block.height * block.width;
  if (x.shape[0] % phases != 0) {
    fail_argument("batch_to_space", "x", fmt::format("{} samples", x.shape[0]),
                  fmt::format("a multiple of the block's {} phases", phases));
  }
  const std::int64_t height = x.shape[2] * block.height - block.top - block.bottom;
  const std::int64_t width = x.shape[3] * block.width - block.left - block.right;
  if (height < 0 || width < 0) {
    fail_argument("batch_to_space", "padding",
                  fmt::format("more than the {} x {} pixels", x.shape[2] * block.height,
                              x.shape[3] * block.width),
                  "at most all of them");
  }
  return {{x.dtype, {x.shape[0] / phases, x.shape[1], height, width}}};
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// The small-image positions [first, last) whose pixel lies in the large image.
std::pair<std::int64_t, std::int64_t> inside(std::int64_t phase, std::int64_t block,
                                             std::int64_t before, std::int64_t large,
                                             std::int64_t small) {
  const std::int64_t first = ceil_div(std::max<std::int64_t>(before - phase, 0), block);
  const std::int64_t last = ceil_div(std::max<std::int64_t>(large + before - phase, 0), block);
  return {std::min(first, small), std::min(last, small)};
}

// Calls function(offset in the large image tensor, offset in the small one, count) for every run of
// pixels of one phase in one row; large offsets step by the block's width, small ones by 1.
template <typename Function>
void for_each_run(const Block& block, const Shape& large, const Shape& small, Function&& function) {
  const std::int64_t channels = large[1];
  const std::int64_t images = large[0] * channels;
  for (std::int64_t phase = 0; phase < block.height * block.width; ++phase) {
    const std::int64_t i = phase / block.width;
    const std::int64_t j = phase % block.width;
    const auto [top, bottom] = inside(i, block.height, block.top, large[2], small[2]);
    const auto [left, right] = inside(j, block.width, block.left, large[3], small[3]);
    for (std::int64_t image = 0; image < images; ++image) {
      for (std::int64_t y = top; y < bottom; ++y) {
        const std::int64_t row = image * large[2] + y * block.height + i - block.top;
        function(row * large[3] + left * block.width + j - block.left,
                 ((phase * images + image) * small[2] + y) * small[3] + left, right - left);
      }
    }
  }
}

void run_space_to_batch(std::span<const Tensor> inputs, const Attributes& attributes,
                        std::span<Tensor> outputs) {
  const Block block = block_of("space_to_batch", attributes);
  std::memset(outputs[0].mutable_bytes(), 0, static_cast<std::size_t>(outputs[0].num_bytes()));
  dispatch_any(inputs[0].dtype(), [&]<typename T>() {
    const T* const large = inputs[0].data<T>().data();
    T* const small = outputs[0].mutable_data<T>().data();
    for_each_run(block, inputs[0].shape(), outputs[0].shape(),
                 [&](std::int64_t from, std::int64_t to, std::int64_t count) {
                   for (std::int64_t k = 0; k < count; ++k) {
                     small[to + k] = large[from + k * block.width];
                   }
                 });
  });
}

void run_batch_to_space(std::span<const Tensor> inputs, const Attributes& attributes,
                        std::span<Tensor> outputs) {
  const Block block = block_of("batch_to_space", attributes);
  dispatch_any(inputs[0].dtype(), [&]<typename T>() {
    const T* const small = inputs[0].data<T>().data();
    T* const large = outputs[0].mutable_data<T>().data();
    for_each_run(block, outputs[0].shape(), inputs[0].shape(),
                 [&](std::int64_t to, std::int64_t from, std::int64_t count) {
                   for (std::int64_t k = 0; k < count; ++k) {
                     large[to + k * block.width] = small[from + k];
                   }
                 });
  });
}

ExampleCall example(DType dtype, Shape shape, std::vector<std::int64_t> block,
                    std::vector<std::int64_t> padding) {
  return {{{dtype, std::move(shape)}},
          {{"block", std::move(block)}, {"padding", std::move(padding)}},
          {{0.0, 2.0}}};
}

std::vector<ExampleCall> space_to_batch_examples() {
  return {example(DType::kFloat64, {2, 2, 4, 6}, {2, 2}, {0, 0, 0, 0}),
          example(DType::kFloat64, {1, 3, 4, 5}, {2, 3}, {1, 1, 0, 1}),
          example(DType::kFloat64, {2, 1, 2, 2}, {3, 1}, {4, 0, 1, 2}),
          example(DType::kUint8, {1, 1, 2, 2}, {1, 2}, {0, 0, 0, 0})};
}

std::vector<ExampleCall> batch_to_space_examples() {
  return {example(DType::kFloat64, {8, 2, 2, 3}, {2, 2}, {0, 0, 0, 0}),
          example(DType::kFloat64, {6, 3, 3, 2}, {2, 3}, {1, 1, 0, 1}),
          example(DType::kFloat64, {6, 1, 2, 5}, {3, 1}, {4, 0, 1, 2}),
          example(DType::kBool, {2, 1, 2, 1}, {1, 2}, {0, 0, 0, 0})};
}

OpInfo make_op(std::string_view name) {
  OpInfo info;
  info.name = name;
  info.flops = [](const OpSignature&) { return 0.0; };
  return info;
}

}  // namespace

std::vector<OpInfo> space_to_batch_ops() {
  OpInfo forward = make_op("space_to_batch");
  forward.infer = infer_space_to_batch;
  forward.kernels = {function_kernel<run_space_to_batch>()};
  forward.gradient = [](const GradientContext& c) {
    return std::vector<Tensor>{apply1("batch_to_space", {c.output_gradients[0]}, c.attributes)};
  };
  forward.examples = space_to_batch_examples;

  OpInfo backward = make_op("batch_to_space");
  backward.infer = infer_batch_to_space;
  backward.kernels = {function_kernel<run_batch_to_space>()};
  backward.gradient = [](const GradientContext& c) {
    return std::vector<Tensor>{apply1("space_to_batch", {c.output_gradients[0]}, c.attributes)};
  };
  backward.examples = batch_to_space_examples;
  return {forward, backward};
}

namespace {

Attributes attributes_of(const SpaceToBatchOptions& options) {
  return {{"block", std::vector<std::int64_t>(options.block.begin(), options.block.end())},
          {"padding", std::vector<std::int64_t>(options.padding.begin(), options.padding.end())}};
}

}  // namespace

Tensor space_to_batch(const Tensor& x, const SpaceToBatchOptions& options) {
  return apply1("space_to_batch", {x}, attributes_of(options));
}

Tensor batch_to_space(const Tensor& x, const SpaceToBatchOptions& options) {
  return apply1("batch_to_space", {x}, attributes_of(options));
}

}  // namespace superstep::kernels
