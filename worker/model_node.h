// A layer of a built model: what Model keeps beside the layer's own values. Private to Model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/shape.h"
#include "paramserver/layout.h"
#include "worker/initializers.h"
#include "worker/layers.h"
#include "worker/model.h"

namespace superstep::worker {

using Nodes = std::vector<std::shared_ptr<const Model::Node>>;

struct Model::Node {
  Layer layer;
  std::string name;      // "conv1"; unique in its list
  kernels::Shape input;  // of one sample
  kernels::Shape output;
  int first_entry = 0;  // of the layout, in the order stated per kind in model_builder.cpp
  int num_entries = 0;  // own ones, without those of the body
  std::int64_t dropout_index = 0;  // kDropout: which dropout of the model this is
  Nodes body;                      // residual layers
};

struct BuiltNodes {
  Nodes nodes;
  paramserver::ParameterLayout layout;  // frozen
  std::vector<EntryInitializer> initializers;
  bool has_dropout = false;
};
BuiltNodes build_nodes(const Sequential& layers, const kernels::Shape& sample_shape,
                       int num_classes);

// Zeros before and after along an axis that grows by kernel window: kSame.
struct AxisPadding {
  std::int64_t before = 0;
  std::int64_t after = 0;
};
AxisPadding padding_of(const Conv2d& layer);

template <typename Pool>
std::int64_t stride_of(const Pool& layer) {
  return layer.stride == 0 ? layer.kernel : layer.stride;
}

// The least stride that takes height and width of image `in` to those of image `out`; 0 when none
// does.
std::int64_t shortcut_stride(const kernels::Shape& in, const kernels::Shape& out);

}  // namespace superstep::worker
