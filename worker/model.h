// A model: layers with their parameters laid out, as functions of (parameters, batch).
//
//   Model model = Model::build(Sequential{...}, {1, 28, 28}, 10);
//   model.initialize(seed, buffer);                       // fills a buffer of layout().size()
//   ForwardOutputs f = model.forward({.parameters = tensors, .images = images}, Mode::kEvaluation);
//
// Everything the trainer needs to record a step: parameters as one tensor per layout entry. forward
// is made of ops only, so that a tape can differentiate it and a Program can record it; parameters
// and images may be float32 or float64 (all alike).
//
// Names of entries: the layer's kind with its number among the layers of that kind in the same
// list, then the part: "conv1/weight", "conv1/bias", "batch_norm2/gamma", "dense1/weight". The body
// of a residual layer counts anew below its name: "residual3/conv1/weight". Layers of batch
// normalisation have gamma, beta, running_mean and running_variance; the last two are statistics.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/precision.h"
#include "kernels/tensor.h"
#include "paramserver/layout.h"
#include "worker/initializers.h"
#include "worker/layers.h"

namespace superstep::worker {

enum class Mode : std::uint8_t { kTraining, kEvaluation };

struct ForwardInputs {
  std::span<const kernels::Tensor> parameters = {};  // one per layout entry, in order
  kernels::Tensor images = {};                       // (N, sample shape...)
  kernels::Tensor sample_ids = {};                   // int64 (N): keys of dropout; training only
  kernels::Tensor random_key = {};                   // int64 (2): seed, epoch; training only
  // Of products and convolutions, forward and in their gradients; bf16 needs float32 parameters.
  kernels::Precision precision = kernels::Precision::kFloat32;
};

struct ForwardOutputs {
  kernels::Tensor logits;  // (N, classes)
  // Training: per statistic entry of the layout (by entry index) what this slot saw: the batch mean
  // or the unbiased batch variance (n = N*H*W values, n - 1 in the denominator; n = 1: 0 by
  // definition), not yet weighted by the number of samples.
  std::vector<std::pair<int, kernels::Tensor>> statistics;
};

class Model {
 public:
  // Infers shapes and lays out parameters. Throws InvalidArgument that names the layer by position
  // and name where shapes do not fit. num_classes must be the width of the last layer.
  static Model build(const Sequential& layers, const kernels::Shape& sample_shape, int num_classes);

  const Sequential& layers() const { return layers_; }
  const paramserver::ParameterLayout& layout() const { return layout_; }
  const kernels::Shape& sample_shape() const { return sample_shape_; }
  int num_classes() const { return num_classes_; }
  bool has_statistics() const;
  bool has_dropout() const { return has_dropout_; }
  std::string summary() const;  // a table: layer, output shape, parameters

  // Keyed by (seed, entry, element): the same values for every number of ranks. buffer.size() ==
  // layout().size(); padding becomes zero.
  void initialize(std::uint64_t seed, std::span<float> buffer) const;
  // Throws InvalidArgument when inputs do not fit the model. Thread-safe.
  ForwardOutputs forward(const ForwardInputs& inputs, Mode mode) const;

  // A layer with its name, shapes and entries (worker/model_node.h); not for users of the class.
  struct Node;

 private:
  Sequential layers_;
  std::vector<std::shared_ptr<const Node>> nodes_;
  paramserver::ParameterLayout layout_;
  std::vector<EntryInitializer> initializers_;  // one per layout entry
  kernels::Shape sample_shape_;
  int num_classes_ = 0;
  bool has_dropout_ = false;
};

// Presets, with the parameter counts they are known by.
Sequential softmax_regression(int num_classes);  // 784 -> 10: 7,850
Sequential mlp_2nn(int num_classes);             // 784-200-200-10: 199,210 (McMahan et al. 2017)
Sequential mcmahan_cnn(int num_classes);  // 5x5x32, 5x5x64, fc 512: 1,663,370 (McMahan et al. 2017)
Sequential resnet20(int num_classes);     // option A: 269,722 on 3x32x32 (He et al. 2015)
Sequential preset(std::string_view name,
                  int num_classes);  // throws InvalidArgument with the nearest name
std::span<const std::string_view> preset_names();

}  // namespace superstep::worker
