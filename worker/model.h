// A model: layers with their parameters laid out, as functions of (parameters, batch).
//
//   Model model = Model::build(Sequential{...}, {1, 28, 28}, 10);
//   model.initialize(seed, buffer);                       // fills a buffer of layout().size()
//   Forward f = model.forward(tape-linked or plain parameter tensors, images, ForwardOptions{...});
//
// Everything the trainer needs to record a step: parameters as one tensor per layout entry.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "paramserver/layout.h"
#include "worker/layers.h"

namespace superstep::worker {

struct Sequential {
  std::vector<Layer> layers;
  Sequential() = default;
  Sequential(std::initializer_list<Layer> list) : layers(list) {}
  explicit Sequential(std::vector<Layer> list) : layers(std::move(list)) {}
};

enum class Mode : std::uint8_t { kTraining, kEvaluation };

struct ForwardInputs {
  std::span<const kernels::Tensor> parameters;   // one per layout entry, in order
  kernels::Tensor images;                        // (N, sample shape...)
  kernels::Tensor sample_ids;                    // int64 (N): keys of dropout; training only
  kernels::Tensor random_key;                    // int64 (2): seed, epoch; training only
};

struct ForwardOutputs {
  kernels::Tensor logits;                        // (N, classes)
  // Training: per statistic entry of the layout (by entry index) what this slot saw: the batch mean or
  // the unbiased batch variance (N*H*W - 1 in the denominator), not yet weighted by the number of samples.
  std::vector<std::pair<int, kernels::Tensor>> statistics;
};

class Model {
 public:
  // Infers shapes and lays out parameters ("conv1/weight", "conv1/bias", "batch_norm3/gamma", ...). Throws
  // InvalidArgument that names the layer by position and kind where shapes do not fit. num_classes must be
  // the width of the last layer.
  static Model build(const Sequential& layers, const kernels::Shape& sample_shape, int num_classes);

  const paramserver::ParameterLayout& layout() const { return layout_; }
  const kernels::Shape& sample_shape() const { return sample_shape_; }
  int num_classes() const { return num_classes_; }
  bool has_statistics() const;
  bool has_dropout() const;
  std::string summary() const;                   // a table: layer, output shape, parameters

  // Keyed by (seed, entry, element): the same values for every number of ranks. buffer.size() == layout().size().
  void initialize(std::uint64_t seed, std::span<float> buffer) const;
  ForwardOutputs forward(const ForwardInputs& inputs, Mode mode) const;

 private:
  struct Node;  // a layer with its entry indices and shapes
  std::vector<std::shared_ptr<const Node>> nodes_;
  paramserver::ParameterLayout layout_;
  kernels::Shape sample_shape_;
  int num_classes_ = 0;
};

// Presets, with the parameter counts they are known by.
Sequential softmax_regression(int num_classes);  // 784 -> 10: 7,850
Sequential mlp_2nn(int num_classes);             // 784-200-200-10: 199,210 (McMahan et al. 2017)
Sequential mcmahan_cnn(int num_classes);         // 5x5x32, 5x5x64, fc 512: 1,663,370 (McMahan et al. 2017)
Sequential resnet20(int num_classes);            // option A: 269,722 on 3x32x32 (He et al. 2015)
Sequential preset(std::string_view name, int num_classes);  // throws InvalidArgument with the nearest name
std::span<const std::string_view> preset_names();

}  // namespace superstep::worker
