// Applies a model: every layer as ops on whole batches, (N, shape of a sample...).
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "kernels/op_table.h"
#include "kernels/ops.h"
#include "worker/layer_fields.h"
#include "worker/model_node.h"

namespace superstep::worker {

namespace {

using kernels::DType;
using kernels::Shape;
using kernels::Tensor;

Shape with_batch(std::int64_t num_samples, const Shape& sample) {
  std::vector<std::int64_t> sizes{num_samples};
  sizes.insert(sizes.end(), sample.sizes().begin(), sample.sizes().end());
  return Shape(std::move(sizes));
}

void require_type(const char* name, const Tensor& tensor, DType dtype, const Shape& shape) {
  if (!tensor.defined() || tensor.dtype() != dtype || tensor.shape() != shape) {
    throw InvalidArgument(
        "Model::forward",
        fmt::format("{}: got {}, expected {} {}", name,
                    tensor.defined() ? fmt::format("{} {}", kernels::name_of(tensor.dtype()),
                                                   tensor.shape().to_string())
                                     : "nothing",
                    kernels::name_of(dtype), shape.to_string()));
  }
}

class Pass {
 public:
  Pass(const ForwardInputs& inputs, Mode mode) : inputs_(inputs), mode_(mode) {}

  Tensor run(const Nodes& nodes, Tensor x) {
    for (const auto& node : nodes) {
      x = std::visit([&](const auto& layer) { return apply(layer, *node, x); }, node->layer);
    }
    return x;
  }
  std::vector<std::pair<int, Tensor>> take_statistics() { return std::move(statistics_); }

 private:
  const Tensor& parameter(const Model::Node& node, int index) const {
    return inputs_.parameters[as_size(node.first_entry + index)];
  }

  Tensor with_bias(bool bias, const Model::Node& node, const Tensor& x) const {
    return bias ? kernels::bias_add(x, parameter(node, 1)) : x;
  }

  Tensor apply(const Dense& layer, const Model::Node& node, const Tensor& x) const {
    return with_bias(layer.bias, node,
                     kernels::matmul(x, parameter(node, 0), {.precision = inputs_.precision}));
  }

  Tensor apply(const Conv2d& layer, const Model::Node& node, const Tensor& x) const {
    const AxisPadding padding = padding_of(layer);
    const Tensor y =
        kernels::conv2d(x, parameter(node, 0),
                        {.stride = {layer.stride, layer.stride},
                         .padding = {padding.before, padding.after, padding.before, padding.after},
                         .dilation = {layer.dilation, layer.dilation},
                         .precision = inputs_.precision});
    return with_bias(layer.bias, node, y);
  }

  template <typename Pool>
  static kernels::PoolOptions pool_options(const Pool& layer) {
    return {.kernel = {layer.kernel, layer.kernel}, .stride = {stride_of(layer), stride_of(layer)}};
  }
  Tensor apply(const MaxPool& layer, const Model::Node& /*node*/, const Tensor& x) const {
    return kernels::max_pool(x, pool_options(layer));
  }
  Tensor apply(const AveragePool& layer, const Model::Node& /*node*/, const Tensor& x) const {
    return kernels::average_pool(x, pool_options(layer));
  }
  Tensor apply(const GlobalAveragePool& /*layer*/, const Model::Node& /*node*/,
               const Tensor& x) const {
    return kernels::global_average_pool(x);
  }

  Tensor apply(const BatchNorm& layer, const Model::Node& node, const Tensor& x) {
    const Tensor& gamma = parameter(node, 0);
    const Tensor& beta = parameter(node, 1);
    if (mode_ == Mode::kEvaluation) {
      return kernels::batch_norm_inference(x, gamma, beta, parameter(node, 2), parameter(node, 3),
                                           layer.epsilon);
    }
    const kernels::BatchNormOutputs normalized = kernels::batch_norm(x, gamma, beta, layer.epsilon);
    statistics_.emplace_back(node.first_entry + 2, normalized.mean);
    statistics_.emplace_back(node.first_entry + 3, unbiased(normalized.variance, x));
    return normalized.y;
  }

  // variance has n in the denominator; the result n - 1. One value has no variance: 0 stays.
  static Tensor unbiased(const Tensor& variance, const Tensor& x) {
    const std::int64_t values = x.num_elements() / x.shape()[1];
    if (values < 2) {
      return variance;
    }
    return kernels::scale(variance, static_cast<double>(values) / static_cast<double>(values - 1));
  }

  Tensor apply(const Relu& /*layer*/, const Model::Node& /*node*/, const Tensor& x) const {
    return kernels::relu(x);
  }
  Tensor apply(const Tanh& /*layer*/, const Model::Node& /*node*/, const Tensor& x) const {
    return kernels::tanh(x);
  }
  Tensor apply(const Sigmoid& /*layer*/, const Model::Node& /*node*/, const Tensor& x) const {
    return kernels::sigmoid(x);
  }
  Tensor apply(const Embedding& /*layer*/, const Model::Node& node, const Tensor& x) const {
    return kernels::embedding_lookup(parameter(node, 0), kernels::cast(x, DType::kInt64));
  }
  Tensor apply(const Flatten& /*layer*/, const Model::Node& node, const Tensor& x) const {
    return kernels::reshape(x, with_batch(x.shape()[0], node.output));
  }

  Tensor apply(const Dropout& layer, const Model::Node& node, const Tensor& x) const {
    if (mode_ == Mode::kEvaluation || layer.rate == 0.0) {
      return x;
    }
    return kernels::dropout(x, inputs_.sample_ids, inputs_.random_key,
                            {.rate = layer.rate, .op_index = node.dropout_index});
  }

  Tensor apply(const Residual& /*layer*/, const Model::Node& node, const Tensor& x) {
    const Tensor body = run(node.body, x);
    return kernels::add(body, shortcut(node, x));
  }

  static Tensor shortcut(const Model::Node& node, const Tensor& x) {
    Tensor y = x;
    if (node.input == node.output) {
      return y;
    }
    if (const std::int64_t stride = shortcut_stride(node.input, node.output); stride > 1) {
      // Windows of one pixel: every stride-th pixel itself.
      y = kernels::average_pool(y, {.kernel = {1, 1}, .stride = {stride, stride}});
    }
    const std::int64_t missing = node.output[0] - node.input[0];
    if (missing > 0) {
      y = kernels::pad(
          y, {.before = {0, missing / 2, 0, 0}, .after = {0, missing - missing / 2, 0, 0}});
    }
    return y;
  }

  const ForwardInputs& inputs_;
  Mode mode_;
  std::vector<std::pair<int, Tensor>> statistics_;
};

}  // namespace

ForwardOutputs Model::forward(const ForwardInputs& inputs, Mode mode) const {
  const auto entries = layout_.entries();
  if (inputs.parameters.size() != entries.size()) {
    throw InvalidArgument("Model::forward",
                          fmt::format("parameters: got {} tensors, expected {}, one per entry",
                                      inputs.parameters.size(), entries.size()));
  }
  const DType dtype = inputs.images.defined() ? inputs.images.dtype() : DType::kFloat32;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    require_type(entries[i].name.c_str(), inputs.parameters[i], dtype, entries[i].shape);
  }
  const std::int64_t num_samples =
      inputs.images.defined() && inputs.images.shape().rank() > 0 ? inputs.images.shape()[0] : 0;
  require_type("images", inputs.images, dtype, with_batch(num_samples, sample_shape_));
  if (mode == Mode::kTraining && has_dropout_) {
    require_type("sample_ids", inputs.sample_ids, DType::kInt64, Shape{num_samples});
    require_type("random_key", inputs.random_key, DType::kInt64, Shape{2});
  }
  Pass pass(inputs, mode);
  Tensor logits = pass.run(nodes_, inputs.images);
  return {.logits = std::move(logits), .statistics = pass.take_statistics()};
}

}  // namespace superstep::worker
