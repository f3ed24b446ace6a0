// Parameters and batches for tests of models, as tensors of either precision.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/philox.h"
#include "kernels/tensor.h"
#include "worker/model.h"

namespace superstep::testing {

template <typename T>
kernels::Tensor tensor_of(kernels::Shape shape, const std::vector<T>& values) {
  return kernels::Tensor::from<T>(std::move(shape), values);
}

// Uniform in [low, high), keyed by a name.
template <typename T>
kernels::Tensor random_tensor(kernels::Shape shape, std::string_view name, double low,
                              double high) {
  PhiloxStream stream(1, stream_id(name));
  std::vector<T> values(static_cast<std::size_t>(shape.num_elements()));
  for (T& value : values) {
    value = static_cast<T>(low + (high - low) * stream.uniform_double());
  }
  return tensor_of<T>(std::move(shape), values);
}

inline kernels::Tensor int64_tensor(const std::vector<std::int64_t>& values) {
  return tensor_of<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

template <typename T>
std::vector<T> values_of(const kernels::Tensor& tensor) {
  return {tensor.data<T>().begin(), tensor.data<T>().end()};
}

// The initial parameters of a model, one tensor per entry.
template <typename T>
std::vector<kernels::Tensor> initial_parameters(const worker::Model& model, std::uint64_t seed) {
  std::vector<float> buffer(static_cast<std::size_t>(model.layout().size()));
  model.initialize(seed, buffer);
  std::vector<kernels::Tensor> parameters;
  for (const paramserver::LayoutEntry& entry : model.layout().entries()) {
    parameters.push_back(tensor_of<T>(
        entry.shape, std::vector<T>(buffer.begin() + entry.offset,
                                    buffer.begin() + entry.offset + entry.num_elements())));
  }
  return parameters;
}

inline kernels::Shape batch_shape(std::int64_t num_samples, const kernels::Shape& sample) {
  std::vector<std::int64_t> sizes{num_samples};
  sizes.insert(sizes.end(), sample.sizes().begin(), sample.sizes().end());
  return kernels::Shape(std::move(sizes));
}

}  // namespace superstep::testing
