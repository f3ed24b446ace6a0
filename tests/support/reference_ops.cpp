#include "tests/support/reference_ops.h"

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>

#include "base/philox.h"

namespace superstep::testing {
namespace {

using kernels::Attributes;
using kernels::Shape;
using Inputs = std::span<const ReferenceTensor>;
using Outputs = std::vector<ReferenceTensor>;
using Index = std::vector<std::int64_t>;

Shape shape_from(const Index& sizes) {
  return Shape(sizes);
}

Index sizes_of(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

// The index of the k-th element in row-major order.
Index index_of(std::int64_t k, const Shape& shape) {
  Index index(static_cast<std::size_t>(shape.rank()));
  for (std::size_t d = index.size(); d-- > 0;) {
    index[d] = k % shape.sizes()[d];
    k /= shape.sizes()[d];
  }
  return index;
}

std::size_t position_of(const Index& index, const Shape& shape) {
  std::int64_t k = 0;
  for (std::size_t d = 0; d < index.size(); ++d) {
    k = k * shape.sizes()[d] + index[d];
  }
  return static_cast<std::size_t>(k);
}

// The element of x that broadcasting shows at `index` of a larger shape.
double broadcast_at(const ReferenceTensor& x, const Index& index) {
  const std::size_t rank = x.shape.sizes().size();
  Index own(index.end() - static_cast<std::ptrdiff_t>(rank), index.end());
  for (std::size_t d = 0; d < rank; ++d) {
    own[d] = x.shape.sizes()[d] == 1 ? 0 : own[d];
  }
  return x.values[position_of(own, x.shape)];
}

// y[index] = value(index), for every index of the shape.
ReferenceTensor tabulate(const Shape& shape, const std::function<double(const Index&)>& value) {
  ReferenceTensor y = reference_zeros(shape);
  for (std::size_t k = 0; k < y.values.size(); ++k) {
    y.values[k] = value(index_of(static_cast<std::int64_t>(k), shape));
  }
  return y;
}

// ---- elements ----

template <double (*kFunction)(double)>
Outputs unary(Inputs inputs, const Attributes&) {
  ReferenceTensor y = inputs[0];
  for (double& value : y.values) {
    value = kFunction(value);
  }
  return {y};
}

template <double (*kFunction)(double, double)>
Outputs binary(Inputs inputs, const Attributes&) {
  const Index a = sizes_of(inputs[0].shape);
  const Index b = sizes_of(inputs[1].shape);
  Index sizes(std::max(a.size(), b.size()), 1);
  for (std::size_t back = 1; back <= sizes.size(); ++back) {
    std::int64_t& size = sizes[sizes.size() - back];
    if (back <= a.size()) {
      size = a[a.size() - back];
    }
    if (back <= b.size() && size == 1) {
      size = b[b.size() - back];
    }
  }
  return {tabulate(shape_from(sizes), [&](const Index& i) {
    return kFunction(broadcast_at(inputs[0], i), broadcast_at(inputs[1], i));
  })};
}

double negative(double x) {
  return -x;
}
double exponential(double x) {
  return std::exp(x);
}
double logarithm(double x) {
  return std::log(x);
}
double root(double x) {
  return std::sqrt(x);
}
double inverse_root(double x) {
  return 1.0 / std::sqrt(x);
}
double squared(double x) {
  return x * x;
}
double rectified(double x) {
  return std::max(x, 0.0);
}
double hyperbolic_tangent(double x) {
  return std::tanh(x);
}
double logistic(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}
double positive(double x) {
  return x > 0.0 ? 1.0 : 0.0;
}
double plus(double a, double b) {
  return a + b;
}
double minus(double a, double b) {
  return a - b;
}
double times(double a, double b) {
  return a * b;
}
double over(double a, double b) {
  return a / b;
}
double relu_backward(double dy, double y) {
  return y > 0.0 ? dy : 0.0;
}
double tanh_backward(double dy, double y) {
  return dy * (1.0 - y * y);
}
double sigmoid_backward(double dy, double y) {
  return dy * y * (1.0 - y);
}

Outputs cast(Inputs inputs, const Attributes& attributes) {
  const std::string& dtype = attributes.text("dtype");
  ReferenceTensor y = inputs[0];
  for (double& value : y.values) {
    if (dtype == "bool") {
      value = value != 0.0 ? 1.0 : 0.0;
    } else if (dtype != "float32" && dtype != "float64") {
      value = std::trunc(value);
    }
  }
  return {y};
}

// ---- reductions ----

Outputs reduce(Inputs inputs, const Attributes& attributes, bool divides) {
  const ReferenceTensor& x = inputs[0];
  std::vector<bool> reduced(x.shape.sizes().size(), false);
  for (const std::int64_t axis : attributes.integers("axes")) {
    reduced[static_cast<std::size_t>(axis < 0 ? axis + x.shape.rank() : axis)] = true;
  }
  const auto project = [&](const Index& full, bool keep_dims, std::int64_t in_place_of_reduced) {
    Index result;
    for (std::size_t d = 0; d < full.size(); ++d) {
      if (!reduced[d]) {
        result.push_back(full[d]);
      } else if (keep_dims) {
        result.push_back(in_place_of_reduced);
      }
    }
    return result;
  };
  const bool keep_dims = attributes.boolean("keep_dims");
  ReferenceTensor y = reference_zeros(shape_from(project(sizes_of(x.shape), keep_dims, 1)));
  for (std::size_t k = 0; k < x.values.size(); ++k) {
    const Index index = index_of(static_cast<std::int64_t>(k), x.shape);
    y.values[position_of(project(index, keep_dims, 0), y.shape)] += x.values[k];
  }
  if (divides) {
    for (double& value : y.values) {
      value *= static_cast<double>(y.values.size()) / static_cast<double>(x.values.size());
    }
  }
  return {y};
}

Outputs sum(Inputs inputs, const Attributes& attributes) {
  return reduce(inputs, attributes, false);
}
Outputs mean(Inputs inputs, const Attributes& attributes) {
  return reduce(inputs, attributes, true);
}

Outputs broadcast_to(Inputs inputs, const Attributes& attributes) {
  return {tabulate(shape_from(attributes.integers("shape")),
                   [&](const Index& i) { return broadcast_at(inputs[0], i); })};
}

// ---- shapes ----

Outputs reshape(Inputs inputs, const Attributes& attributes) {
  return {{shape_from(attributes.integers("shape")), inputs[0].values}};
}

Outputs transpose(Inputs inputs, const Attributes& attributes) {
  const Index& permutation = attributes.integers("permutation");
  Index sizes;
  for (const std::int64_t axis : permutation) {
    sizes.push_back(inputs[0].shape[static_cast<int>(axis)]);
  }
  return {tabulate(shape_from(sizes), [&](const Index& i) {
    Index from(i.size());
    for (std::size_t d = 0; d < i.size(); ++d) {
      from[static_cast<std::size_t>(permutation[d])] = i[d];
    }
    return inputs[0].values[position_of(from, inputs[0].shape)];
  })};
}

Outputs concat(Inputs inputs, const Attributes& attributes) {
  const std::int64_t given = attributes.integer("axis");
  const std::size_t axis =
      static_cast<std::size_t>(given < 0 ? given + inputs[0].shape.rank() : given);
  Index sizes = sizes_of(inputs[0].shape);
  sizes[axis] = 0;
  for (const ReferenceTensor& part : inputs) {
    sizes[axis] += part.shape.sizes()[axis];
  }
  return {tabulate(shape_from(sizes), [&](Index i) {
    std::size_t part = 0;
    while (i[axis] >= inputs[part].shape.sizes()[axis]) {
      i[axis] -= inputs[part++].shape.sizes()[axis];
    }
    return inputs[part].values[position_of(i, inputs[part].shape)];
  })};
}

Outputs slice(Inputs inputs, const Attributes& attributes) {
  return {tabulate(shape_from(attributes.integers("size")), [&](Index i) {
    for (std::size_t d = 0; d < i.size(); ++d) {
      i[d] += attributes.integers("begin")[d];
    }
    return inputs[0].values[position_of(i, inputs[0].shape)];
  })};
}

Outputs pad(Inputs inputs, const Attributes& attributes) {
  Index sizes = sizes_of(inputs[0].shape);
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    sizes[d] += attributes.integers("before")[d] + attributes.integers("after")[d];
  }
  return {tabulate(shape_from(sizes), [&](Index i) {
    for (std::size_t d = 0; d < i.size(); ++d) {
      i[d] -= attributes.integers("before")[d];
      if (i[d] < 0 || i[d] >= inputs[0].shape.sizes()[d]) {
        return attributes.real("value");
      }
    }
    return inputs[0].values[position_of(i, inputs[0].shape)];
  })};
}

// Where pixel (h, w) of phase (i, j) lies in the large image; see kernels/ops.h.
Outputs space_to_batch(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& x = inputs[0];
  const Index& block = attributes.integers("block");
  const Index& padding = attributes.integers("padding");
  const std::int64_t samples = x.shape[0];
  const Shape shape{samples * block[0] * block[1], x.shape[1],
                    (x.shape[2] + padding[0] + padding[1]) / block[0],
                    (x.shape[3] + padding[2] + padding[3]) / block[1]};
  return {tabulate(shape, [&](const Index& o) {
    const std::int64_t phase = o[0] / samples;
    const std::int64_t h = o[2] * block[0] + phase / block[1] - padding[0];
    const std::int64_t w = o[3] * block[1] + phase % block[1] - padding[2];
    if (h < 0 || h >= x.shape[2] || w < 0 || w >= x.shape[3]) {
      return 0.0;
    }
    return x.values[position_of({o[0] % samples, o[1], h, w}, x.shape)];
  })};
}

Outputs batch_to_space(Inputs inputs, const Attributes& attributes) {
  const ReferenceTensor& x = inputs[0];
  const Index& block = attributes.integers("block");
  const Index& padding = attributes.integers("padding");
  const std::int64_t samples = x.shape[0] / (block[0] * block[1]);
  const Shape shape{samples, x.shape[1], x.shape[2] * block[0] - padding[0] - padding[1],
                    x.shape[3] * block[1] - padding[2] - padding[3]};
  return {tabulate(shape, [&](const Index& o) {
    const std::int64_t h = o[2] + padding[0];
    const std::int64_t w = o[3] + padding[2];
    const std::int64_t phase = h % block[0] * block[1] + w % block[1];
    return x
        .values[position_of({phase * samples + o[0], o[1], h / block[0], w / block[1]}, x.shape)];
  })};
}

// ---- losses ----

// log(sum(exp(row))) of the row of the last axis that element k stands in.
double log_sum_exp(const ReferenceTensor& x, std::size_t k) {
  const std::size_t n = static_cast<std::size_t>(x.shape[-1]);
  const std::size_t begin = k / n * n;
  double total = 0.0;
  for (std::size_t i = begin; i < begin + n; ++i) {
    total += std::exp(x.values[i]);
  }
  return std::log(total);
}

Outputs log_softmax(Inputs inputs, const Attributes&) {
  ReferenceTensor y = inputs[0];
  for (std::size_t k = 0; k < y.values.size(); ++k) {
    y.values[k] = inputs[0].values[k] - log_sum_exp(inputs[0], k);
  }
  return {y};
}

Outputs softmax(Inputs inputs, const Attributes& attributes) {
  Outputs outputs = log_softmax(inputs, attributes);
  for (double& value : outputs[0].values) {
    value = std::exp(value);
  }
  return outputs;
}

Outputs cross_entropy(Inputs inputs, const Attributes& attributes) {
  const Outputs log_probabilities = log_softmax(inputs.subspan(0, 1), attributes);
  return {tabulate(inputs[1].shape, [&](const Index& i) {
    const std::int64_t label =
        static_cast<std::int64_t>(inputs[1].values[position_of(i, inputs[1].shape)]);
    return -log_probabilities[0].values[position_of({i[0], label}, inputs[0].shape)];
  })};
}

Outputs cross_entropy_backward(Inputs inputs, const Attributes& attributes) {
  const Outputs probabilities = softmax(inputs.subspan(1, 1), attributes);
  return {tabulate(inputs[1].shape, [&](const Index& i) {
    const std::size_t sample = static_cast<std::size_t>(i[0]);
    const double one_hot = static_cast<double>(i[1]) == inputs[2].values[sample] ? 1.0 : 0.0;
    return inputs[0].values[sample] *
           (probabilities[0].values[position_of(i, inputs[1].shape)] - one_hot);
  })};
}

// ---- embedding, dropout ----

Outputs embedding_lookup(Inputs inputs, const Attributes&) {
  Index sizes = sizes_of(inputs[1].shape);
  sizes.push_back(inputs[0].shape[1]);
  return {tabulate(shape_from(sizes), [&](const Index& i) {
    const Index place(i.begin(), i.end() - 1);
    const std::int64_t id =
        static_cast<std::int64_t>(inputs[1].values[position_of(place, inputs[1].shape)]);
    return inputs[0].values[position_of({id, i.back()}, inputs[0].shape)];
  })};
}

Outputs embedding_backward(Inputs inputs, const Attributes& attributes) {
  const std::int64_t width = inputs[0].shape[-1];
  ReferenceTensor y = reference_zeros({attributes.integer("num_rows"), width});
  for (std::size_t k = 0; k < inputs[0].values.size(); ++k) {
    const std::int64_t column = static_cast<std::int64_t>(k) % width;
    const double id = inputs[1].values[k / static_cast<std::size_t>(width)];
    y.values[position_of({static_cast<std::int64_t>(id), column}, y.shape)] += inputs[0].values[k];
  }
  return {y};
}

Outputs dropout(Inputs inputs, const Attributes& attributes) {
  ReferenceTensor y = inputs[0];
  const double rate = attributes.real("rate");
  const std::size_t features = y.values.empty() ? 0 : y.values.size() / inputs[1].values.size();
  for (std::size_t k = 0; k < y.values.size(); ++k) {
    PhiloxStream stream(static_cast<std::uint64_t>(inputs[2].values[0]), stream_id("dropout"),
                        static_cast<std::int64_t>(inputs[2].values[1]),
                        static_cast<std::int64_t>(inputs[1].values[k / features]),
                        attributes.integer("op_index"));
    std::uint32_t word = 0;
    for (std::size_t i = 0; i <= k % features; ++i) {
      word = stream.bits32();
    }
    y.values[k] = static_cast<double>(word) < rate * 0x1p32 ? 0.0 : y.values[k] / (1.0 - rate);
  }
  return {y};
}

}  // namespace

ReferenceFunction light_reference(std::string_view op) {
  static const std::map<std::string_view, ReferenceFunction> kFunctions = {
      {"add", binary<plus>},
      {"batch_to_space", batch_to_space},
      {"broadcast_to", broadcast_to},
      {"cast", cast},
      {"concat", concat},
      {"cross_entropy", cross_entropy},
      {"cross_entropy_backward", cross_entropy_backward},
      {"div", binary<over>},
      {"dropout", dropout},
      {"embedding_backward", embedding_backward},
      {"embedding_lookup", embedding_lookup},
      {"exp", unary<exponential>},
      {"greater_than_zero", unary<positive>},
      {"log", unary<logarithm>},
      {"log_softmax", log_softmax},
      {"mean", mean},
      {"mul", binary<times>},
      {"neg", unary<negative>},
      {"pad", pad},
      {"relu", unary<rectified>},
      {"relu_backward", binary<relu_backward>},
      {"reshape", reshape},
      {"rsqrt", unary<inverse_root>},
      {"sigmoid", unary<logistic>},
      {"sigmoid_backward", binary<sigmoid_backward>},
      {"slice", slice},
      {"softmax", softmax},
      {"space_to_batch", space_to_batch},
      {"sqrt", unary<root>},
      {"square", unary<squared>},
      {"sub", binary<minus>},
      {"sum", sum},
      {"tanh", unary<hyperbolic_tangent>},
      {"tanh_backward", binary<tanh_backward>},
      {"transpose", transpose},
  };
  const auto found = kFunctions.find(op);
  return found == kFunctions.end() ? nullptr : found->second;
}

ReferenceFunction reference_of(std::string_view op) {
  const ReferenceFunction light = light_reference(op);
  return light != nullptr ? light : heavy_reference(op);
}

}  // namespace superstep::testing
