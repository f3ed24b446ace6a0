#include "tests/support/reference_heavy_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "base/philox.h"
#include "kernels/dispatch.h"

namespace superstep::testing {
namespace {

using kernels::Attributes;
using kernels::Shape;
using Inputs = std::span<const ReferenceTensor>;
using Outputs = std::vector<ReferenceTensor>;
using Sizes = std::vector<std::int64_t>;

// Element (n, c, h, w) of a four-dimensional tensor.
template <typename Reference>
auto& at(Reference& t, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  const std::span<const std::int64_t> size = t.shape.sizes();
  return t.values[static_cast<std::size_t>(((n * size[1] + c) * size[2] + h) * size[3] + w)];
}

Sizes sizes(const Attributes& attributes, std::string_view name, Sizes otherwise) {
  return attributes.contains(name) ? attributes.integers(name) : otherwise;
}

bool flag(const Attributes& attributes, std::string_view name) {
  return attributes.contains(name) && attributes.boolean(name);
}

// ---- matrices ----

Outputs matmul(Inputs inputs, const Attributes& attributes) {
  const bool ta = flag(attributes, "transpose_a");
  const bool tb = flag(attributes, "transpose_b");
  const ReferenceTensor& a = inputs[0];
  const ReferenceTensor& b = inputs[1];
  const std::int64_t m = a.shape[ta ? 1 : 0];
  const std::int64_t k = a.shape[ta ? 0 : 1];
  const std::int64_t n = b.shape[tb ? 0 : 1];
  ReferenceTensor c = reference_zeros(Shape{m, n});
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t p = 0; p < k; ++p) {
        const double left = a.values[static_cast<std::size_t>(ta ? p * m + i : i * k + p)];
        const double right = b.values[static_cast<std::size_t>(tb ? j * k + p : p * n + j)];
        c.values[static_cast<std::size_t>(i * n + j)] += left * right;
      }
    }
  }
  return {c};
}

std::int64_t plane_size(const Shape& shape) {
  std::int64_t size = 1;
  for (int axis = 2; axis < shape.rank(); ++axis) {
    size *= shape[axis];
  }
  return size;
}

std::size_t channel_of(const Shape& shape, std::size_t index) {
  return index / static_cast<std::size_t>(plane_size(shape)) % static_cast<std::size_t>(shape[1]);
}

Outputs bias_add(Inputs inputs, const Attributes&) {
  ReferenceTensor y = inputs[0];
  for (std::size_t i = 0; i < y.values.size(); ++i) {
    y.values[i] += inputs[1].values[channel_of(y.shape, i)];
  }
  return {y};
}

Outputs bias_add_backward(Inputs inputs, const Attributes&) {
  ReferenceTensor sums = reference_zeros(Shape{inputs[0].shape[1]});
  for (std::size_t i = 0; i < inputs[0].values.size(); ++i) {
    sums.values[channel_of(inputs[0].shape, i)] += inputs[0].values[i];
  }
  return {sums};
}

// ---- convolution ----

// Calls function(n, o, i, j, c, p, q, h, w) for every product of y[n, o, i, j] += x[n, c, h, w]
// f[o, c, p, q].
template <typename Function>
void for_each_product(const Shape& x, const Shape& f, const Shape& y, const Attributes& attributes,
                      const Function& function) {
  const Sizes stride = sizes(attributes, "stride", {1, 1});
  const Sizes padding = sizes(attributes, "padding", {0, 0, 0, 0});
  const Sizes dilation = sizes(attributes, "dilation", {1, 1});
  for (std::int64_t n = 0; n < y[0]; ++n) {
    for (std::int64_t o = 0; o < y[1]; ++o) {
      for (std::int64_t i = 0; i < y[2]; ++i) {
        for (std::int64_t j = 0; j < y[3]; ++j) {
          for (std::int64_t c = 0; c < x[1]; ++c) {
            for (std::int64_t p = 0; p < f[2]; ++p) {
              for (std::int64_t q = 0; q < f[3]; ++q) {
                const std::int64_t h = i * stride[0] - padding[0] + p * dilation[0];
                const std::int64_t w = j * stride[1] - padding[2] + q * dilation[1];
                if (h >= 0 && h < x[2] && w >= 0 && w < x[3]) {
                  function(n, o, i, j, c, p, q, h, w);
                }
              }
            }
          }
        }
      }
    }
  }
}

Outputs conv2d(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& x = inputs[0];
  const ReferenceTensor& f = inputs[1];
  const Sizes stride = sizes(attributes, "stride", {1, 1});
  const Sizes padding = sizes(attributes, "padding", {0, 0, 0, 0});
  const Sizes dilation = sizes(attributes, "dilation", {1, 1});
  const std::int64_t rows =
      x.shape[2] + padding[0] + padding[1] - dilation[0] * (f.shape[2] - 1) - 1;
  const std::int64_t columns =
      x.shape[3] + padding[2] + padding[3] - dilation[1] * (f.shape[3] - 1) - 1;
  ReferenceTensor y =
      reference_zeros(Shape{x.shape[0], f.shape[0], rows / stride[0] + 1, columns / stride[1] + 1});
  for_each_product(x.shape, f.shape, y.shape, attributes,
                   [&](auto n, auto o, auto i, auto j, auto c, auto p, auto q, auto h, auto w) {
                     at(y, n, o, i, j) += at(x, n, c, h, w) * at(f, o, c, p, q);
                   });
  return {y};
}

Outputs conv2d_backward_input(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& y = inputs[0];
  const ReferenceTensor& f = inputs[1];
  ReferenceTensor x = reference_zeros(Shape(attributes.integers("input_shape")));
  for_each_product(x.shape, f.shape, y.shape, attributes,
                   [&](auto n, auto o, auto i, auto j, auto c, auto p, auto q, auto h, auto w) {
                     at(x, n, c, h, w) += at(y, n, o, i, j) * at(f, o, c, p, q);
                   });
  return {x};
}

Outputs conv2d_backward_filter(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& x = inputs[0];
  const ReferenceTensor& y = inputs[1];
  ReferenceTensor f = reference_zeros(Shape(attributes.integers("filter_shape")));
  for_each_product(x.shape, f.shape, y.shape, attributes,
                   [&](auto n, auto o, auto i, auto j, auto c, auto p, auto q, auto h, auto w) {
                     at(f, o, c, p, q) += at(x, n, c, h, w) * at(y, n, o, i, j);
                   });
  return {f};
}

// ---- pooling ----

// The elements of x in the window of output (i, j), as flat positions in the plane.
Sizes window_positions(const Shape& x, const Attributes& attributes, std::int64_t i,
                       std::int64_t j) {
  const Sizes kernel = attributes.integers("kernel");
  const Sizes stride = sizes(attributes, "stride", {1, 1});
  const Sizes padding = sizes(attributes, "padding", {0, 0, 0, 0});
  Sizes positions;
  for (std::int64_t h = i * stride[0] - padding[0]; h < i * stride[0] - padding[0] + kernel[0];
       ++h) {
    for (std::int64_t w = j * stride[1] - padding[2]; w < j * stride[1] - padding[2] + kernel[1];
         ++w) {
      if (h >= 0 && h < x[2] && w >= 0 && w < x[3]) {
        positions.push_back(h * x[3] + w);
      }
    }
  }
  return positions;
}

Shape pooled(const Shape& x, const Attributes& attributes) {
  const Sizes kernel = attributes.integers("kernel");
  const Sizes stride = sizes(attributes, "stride", {1, 1});
  const Sizes padding = sizes(attributes, "padding", {0, 0, 0, 0});
  return {x[0], x[1], (x[2] + padding[0] + padding[1] - kernel[0]) / stride[0] + 1,
          (x[3] + padding[2] + padding[3] - kernel[1]) / stride[1] + 1};
}

// Calls function(n, c, i, j, positions) for every window.
template <typename Function>
void for_each_window(const Shape& x, const Attributes& attributes, const Function& function) {
  const Shape y = pooled(x, attributes);
  for (std::int64_t n = 0; n < y[0]; ++n) {
    for (std::int64_t c = 0; c < y[1]; ++c) {
      for (std::int64_t i = 0; i < y[2]; ++i) {
        for (std::int64_t j = 0; j < y[3]; ++j) {
          function(n, c, i, j, window_positions(x, attributes, i, j));
        }
      }
    }
  }
}

Outputs max_pool(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& x = inputs[0];
  ReferenceTensor y = reference_zeros(pooled(x.shape, attributes));
  ReferenceTensor argmax = y;
  for_each_window(x.shape, attributes, [&](auto n, auto c, auto i, auto j, const Sizes& positions) {
    std::int64_t best = positions.front();
    for (const std::int64_t position : positions) {
      const double value = at(x, n, c, 0, position);
      const double so_far = at(x, n, c, 0, best);
      if (value > so_far || (std::isnan(value) && !std::isnan(so_far))) {
        best = position;
      }
    }
    at(y, n, c, i, j) = at(x, n, c, 0, best);
    at(argmax, n, c, i, j) = static_cast<double>(best);
  });
  return {y, argmax};
}

Outputs max_pool_backward(Inputs inputs, const Attributes& attributes) {
  ReferenceTensor x = reference_zeros(Shape(attributes.integers("input_shape")));
  const std::size_t window_plane = static_cast<std::size_t>(plane_size(inputs[0].shape));
  const std::size_t plane = static_cast<std::size_t>(plane_size(x.shape));
  for (std::size_t k = 0; k < inputs[0].values.size(); ++k) {
    x.values[k / window_plane * plane + static_cast<std::size_t>(inputs[1].values[k])] +=
        inputs[0].values[k];
  }
  return {x};
}

Outputs max_pool_gather(Inputs inputs, const Attributes&) {
  ReferenceTensor y = reference_zeros(inputs[1].shape);
  const std::size_t window_plane = static_cast<std::size_t>(plane_size(inputs[1].shape));
  const std::size_t plane = static_cast<std::size_t>(plane_size(inputs[0].shape));
  for (std::size_t k = 0; k < y.values.size(); ++k) {
    y.values[k] =
        inputs[0].values[k / window_plane * plane + static_cast<std::size_t>(inputs[1].values[k])];
  }
  return {y};
}

Outputs average_pool(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& x = inputs[0];
  ReferenceTensor y = reference_zeros(pooled(x.shape, attributes));
  for_each_window(x.shape, attributes, [&](auto n, auto c, auto i, auto j, const Sizes& positions) {
    for (const std::int64_t position : positions) {
      at(y, n, c, i, j) += at(x, n, c, 0, position) / static_cast<double>(positions.size());
    }
  });
  return {y};
}

Outputs average_pool_backward(Inputs inputs, const Attributes& attributes) {
  ReferenceTensor x = reference_zeros(Shape(attributes.integers("input_shape")));
  for_each_window(x.shape, attributes, [&](auto n, auto c, auto i, auto j, const Sizes& positions) {
    for (const std::int64_t position : positions) {
      at(x, n, c, 0, position) += at(inputs[0], n, c, i, j) / static_cast<double>(positions.size());
    }
  });
  return {x};
}

Outputs global_average_pool(Inputs inputs, const Attributes&) {
  const Shape& shape = inputs[0].shape;
  ReferenceTensor y = reference_zeros(Shape{shape[0], shape[1]});
  for (std::size_t k = 0; k < inputs[0].values.size(); ++k) {
    y.values[k / static_cast<std::size_t>(plane_size(shape))] +=
        inputs[0].values[k] / static_cast<double>(plane_size(shape));
  }
  return {y};
}

Outputs global_average_pool_backward(Inputs inputs, const Attributes& attributes) {
  ReferenceTensor x = reference_zeros(Shape(attributes.integers("input_shape")));
  for (std::size_t k = 0; k < x.values.size(); ++k) {
    x.values[k] = inputs[0].values[k / static_cast<std::size_t>(plane_size(x.shape))] /
                  static_cast<double>(plane_size(x.shape));
  }
  return {x};
}

// ---- batch norm ----

double samples_per_channel(const Shape& x) {
  return static_cast<double>(std::max<std::int64_t>(1, x[0] * plane_size(x)));
}

ReferenceTensor normalised(const ReferenceTensor& x, const ReferenceTensor& mean,
                           const ReferenceTensor& variance, double epsilon) {
  ReferenceTensor y = x;
  for (std::size_t k = 0; k < y.values.size(); ++k) {
    const std::size_t c = channel_of(x.shape, k);
    y.values[k] = (x.values[k] - mean.values[c]) / std::sqrt(variance.values[c] + epsilon);
  }
  return y;
}

ReferenceTensor scaled_and_shifted(ReferenceTensor x, const ReferenceTensor& gamma,
                                   const ReferenceTensor& beta) {
  for (std::size_t k = 0; k < x.values.size(); ++k) {
    const std::size_t c = channel_of(x.shape, k);
    x.values[k] = x.values[k] * gamma.values[c] + beta.values[c];
  }
  return x;
}

Outputs batch_norm(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& x = inputs[0];
  ReferenceTensor mean = reference_zeros(Shape{x.shape[1]});
  ReferenceTensor variance = mean;
  for (std::size_t k = 0; k < x.values.size(); ++k) {
    mean.values[channel_of(x.shape, k)] += x.values[k] / samples_per_channel(x.shape);
  }
  for (std::size_t k = 0; k < x.values.size(); ++k) {
    const double deviation = x.values[k] - mean.values[channel_of(x.shape, k)];
    variance.values[channel_of(x.shape, k)] += deviation * deviation / samples_per_channel(x.shape);
  }
  const ReferenceTensor y = normalised(x, mean, variance, attributes.real("epsilon"));
  return {scaled_and_shifted(y, inputs[1], inputs[2]), mean, variance};
}

Outputs batch_norm_inference(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor y = normalised(inputs[0], inputs[3], inputs[4], attributes.real("epsilon"));
  return {scaled_and_shifted(y, inputs[1], inputs[2])};
}

Outputs batch_norm_backward(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& g = inputs[0];
  const double m = samples_per_channel(g.shape);
  const ReferenceTensor xh =
      normalised(inputs[1], inputs[3], inputs[4], attributes.real("epsilon"));
  ReferenceTensor dgamma = reference_zeros(Shape{g.shape[1]});
  ReferenceTensor dbeta = dgamma;
  for (std::size_t k = 0; k < g.values.size(); ++k) {
    dgamma.values[channel_of(g.shape, k)] += g.values[k] * xh.values[k];
    dbeta.values[channel_of(g.shape, k)] += g.values[k];
  }
  ReferenceTensor dx = g;
  for (std::size_t k = 0; k < g.values.size(); ++k) {
    const std::size_t c = channel_of(g.shape, k);
    const double factor =
        inputs[2].values[c] / std::sqrt(inputs[4].values[c] + attributes.real("epsilon"));
    dx.values[k] =
        factor * (g.values[k] - dbeta.values[c] / m - xh.values[k] * dgamma.values[c] / m);
  }
  return {dx, dgamma, dbeta};
}

}  // namespace

ReferenceFunction heavy_reference(std::string_view op) {
  static const std::map<std::string_view, ReferenceFunction> kReferences = {
      {"matmul", &matmul},
      {"bias_add", &bias_add},
      {"bias_add_backward", &bias_add_backward},
      {"conv2d", &conv2d},
      {"conv2d_backward_input", &conv2d_backward_input},
      {"conv2d_backward_filter", &conv2d_backward_filter},
      {"max_pool", &max_pool},
      {"max_pool_backward", &max_pool_backward},
      {"max_pool_gather", &max_pool_gather},
      {"average_pool", &average_pool},
      {"average_pool_backward", &average_pool_backward},
      {"global_average_pool", &global_average_pool},
      {"global_average_pool_backward", &global_average_pool_backward},
      {"batch_norm", &batch_norm},
      {"batch_norm_backward", &batch_norm_backward},
      {"batch_norm_inference", &batch_norm_inference},
  };
  const auto found = kReferences.find(op);
  return found == kReferences.end() ? nullptr : found->second;
}

ReferenceTensor reference_zeros(const kernels::Shape& shape) {
  return {shape, std::vector<double>(static_cast<std::size_t>(shape.num_elements()), 0.0)};
}

std::vector<ReferenceTensor> to_reference(std::span<const kernels::Tensor> tensors) {
  std::vector<ReferenceTensor> references;
  for (const kernels::Tensor& tensor : tensors) {
    ReferenceTensor reference{tensor.shape(), {}};
    kernels::dispatch_any(tensor.dtype(), [&]<typename T>() {
      for (const T value : tensor.data<T>()) {
        reference.values.push_back(static_cast<double>(value));
      }
    });
    references.push_back(std::move(reference));
  }
  return references;
}

kernels::Tensor random_tensor(const kernels::TensorType& type, std::uint64_t seed, double low,
                              double high) {
  kernels::Tensor tensor = kernels::Tensor::uninitialized(type.shape, type.dtype);
  PhiloxStream stream(seed, stream_id("random_tensor"));
  kernels::dispatch_any(type.dtype, [&]<typename T>() {
    for (T& value : tensor.mutable_data<T>()) {
      value = static_cast<T>(low + (high - low) * stream.uniform_double());
    }
  });
  return tensor;
}

std::vector<kernels::Tensor> example_inputs(const kernels::ExampleCall& example,
                                            kernels::DType dtype, std::uint64_t seed) {
  std::vector<kernels::Tensor> inputs;
  for (std::size_t i = 0; i < example.inputs.size(); ++i) {
    kernels::TensorType type = example.inputs[i];
    if (kernels::is_floating_point(type.dtype)) {
      type.dtype = dtype;
    }
    inputs.push_back(
        random_tensor(type, seed + i, example.ranges[i].first, example.ranges[i].second));
  }
  return inputs;
}

double largest_difference(const kernels::Tensor& got, const ReferenceTensor& want) {
  if (got.shape() != want.shape) {
    return std::numeric_limits<double>::infinity();
  }
  const std::vector<ReferenceTensor> values = to_reference(std::span(&got, 1));
  double largest = 0.0;
  for (std::size_t i = 0; i < want.values.size(); ++i) {
    const double a = values[0].values[i];
    const double b = want.values[i];
    if (std::isnan(a) != std::isnan(b)) {
      return std::numeric_limits<double>::infinity();
    }
    if (!std::isnan(a) && a != b) {
      largest = std::max(largest, std::abs(a - b));
    }
  }
  return largest;
}

bool same_bits(const kernels::Tensor& a, const kernels::Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.bytes(), b.bytes(), static_cast<std::size_t>(a.num_bytes())) == 0;
}

}  // namespace superstep::testing
