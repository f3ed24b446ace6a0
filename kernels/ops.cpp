// Fronts of the products, convolutions, pools and norms; the other fronts stand beside their ops.
#include "kernels/ops.h"

#include <utility>

#include "kernels/op_table.h"

namespace superstep::kernels {
namespace {

template <std::size_t kSize>
std::vector<std::int64_t> list(const std::array<std::int64_t, kSize>& values) {
  return {values.begin(), values.end()};
}

Attributes attributes_of(const PoolOptions& options) {
  return {{"kernel", list(options.kernel)},
          {"stride", list(options.stride)},
          {"padding", list(options.padding)}};
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  return apply1(
      "matmul", {a, b},
      with_precision({{"transpose_a", options.transpose_a}, {"transpose_b", options.transpose_b}},
                     options.precision));
}

Tensor bias_add(const Tensor& x, const Tensor& bias) {
  return apply1("bias_add", {x, bias});
}

Tensor conv2d(const Tensor& x, const Tensor& filter, const Conv2dOptions& options) {
  return apply1("conv2d", {x, filter},
                with_precision({{"stride", list(options.stride)},
                                {"padding", list(options.padding)},
                                {"dilation", list(options.dilation)}},
                               options.precision));
}

Tensor max_pool(const Tensor& x, const PoolOptions& options) {
  return std::move(apply("max_pool", std::span<const Tensor>(&x, 1), attributes_of(options))[0]);
}

Tensor average_pool(const Tensor& x, const PoolOptions& options) {
  return apply1("average_pool", {x}, attributes_of(options));
}

Tensor global_average_pool(const Tensor& x) {
  return apply1("global_average_pool", {x});
}

BatchNormOutputs batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                            double epsilon) {
  const std::array<Tensor, 3> inputs = {x, gamma, beta};
  std::vector<Tensor> outputs = apply("batch_norm", inputs, {{"epsilon", epsilon}});
  return {std::move(outputs[0]), std::move(outputs[1]), std::move(outputs[2])};
}

Tensor batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                            const Tensor& mean, const Tensor& variance, double epsilon) {
  return apply1("batch_norm_inference", {x, gamma, beta, mean, variance}, {{"epsilon", epsilon}});
}

}  // namespace superstep::kernels
