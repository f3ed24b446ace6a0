// Walks the layers once: names, shapes, entries of the layout with their initialisers.
#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "worker/layer_error.h"
#include "worker/layer_fields.h"
#include "worker/model_node.h"

namespace superstep::worker {

namespace {

using kernels::Shape;

// Of one layer: 4 TiB in float32, more than a node holds.
constexpr double kMaxWeights = 1099511627776.0;

std::string_view name_stem(const Layer& layer) {
  return std::holds_alternative<Conv2d>(layer) ? "conv" : kind_of(layer);
}

class Builder {
 public:
  Nodes build_list(const std::vector<Layer>& layers, Shape shape, const std::string& prefix,
                   const std::string& path, int nesting) {
    Nodes nodes;
    std::map<std::string_view, int> numbers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::string_view stem = name_stem(layers[i]);
      auto node = std::make_shared<Model::Node>();
      node->layer = layers[i];
      node->name = fmt::format("{}{}", stem, ++numbers[stem]);
      node->input = shape;
      node->output = shape;
      node->first_entry = static_cast<int>(built_.initializers.size());
      prefix_ = prefix + node->name + "/";
      position_.resize(static_cast<std::size_t>(nesting));
      position_.push_back(i);
      path_ = fmt::format("{}layer {} ({})", path, i + 1, node->name);
      nesting_ = nesting;
      if (const std::string problem = problem_with(layers[i]); !problem.empty()) {
        fail(problem);
      }
      std::visit([&](const auto& layer) { place(layer, *node); }, node->layer);
      shape = node->output;
      nodes.push_back(std::move(node));
    }
    return nodes;
  }

  BuiltNodes finish(Nodes nodes) {
    if (built_.initializers.empty()) {
      throw InvalidArgument("Model::build", "no layer has parameters: there is nothing to train");
    }
    built_.nodes = std::move(nodes);
    built_.layout.freeze();
    return std::move(built_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw LayerError(position_, fmt::format("{}: {}", path_, what));
  }

  void add_entry(Model::Node& node, paramserver::LayoutEntry entry, EntryInitializer initializer) {
    entry.name = prefix_ + entry.name;
    built_.layout.add(std::move(entry));
    built_.initializers.push_back(initializer);
    ++node.num_entries;
  }

  void add_weight(Model::Node& node, Shape shape, Initializer initializer, Fan fan) {
    add_entry(node, {.name = "weight", .shape = std::move(shape)},
              weight_initializer(initializer, fan));
  }

  void add_vector(Model::Node& node, const char* name, std::int64_t size, float value) {
    add_entry(node, {.name = name, .shape = {size}, .decayed = false},
              EntryInitializer::constant(value));
  }

  void add_statistic(Model::Node& node, const char* name, std::int64_t size, double momentum,
                     float value) {
    add_entry(node,
              {.name = name,
               .shape = {size},
               .role = paramserver::EntryRole::kStatistic,
               .fold = static_cast<float>(momentum),
               .decayed = false},
              EntryInitializer::constant(value));
  }

  void require_image(const Model::Node& node) const {
    if (node.input.rank() != 3) {
      fail(fmt::format("shape of its input: got {}, expected an image (C, H, W)",
                       node.input.to_string()));
    }
  }

  // Of weights, before anything is computed from their number.
  void require_countable(const Shape& weights) const {
    double count = 1.0;
    for (const std::int64_t size : weights.sizes()) {
      count *= static_cast<double>(size);
    }
    if (count > kMaxWeights) {
      fail(fmt::format("weights of shape {}: got {:.3g} values, expected at most {:.3g}",
                       weights.to_string(), count, kMaxWeights));
    }
  }

  // Entries: weight (inputs, units), bias (units).
  void place(const Dense& layer, Model::Node& node) {
    if (node.input.rank() != 1) {
      fail(
          fmt::format("shape of its input: got {}, expected (features); put a Flatten layer before",
                      node.input.to_string()));
    }
    const std::int64_t inputs = node.input[0];
    require_countable({inputs, layer.units});
    add_weight(node, {inputs, layer.units}, layer.initializer, {.in = inputs, .out = layer.units});
    if (layer.bias) {
      add_vector(node, "bias", layer.units, 0.0F);
    }
    node.output = {layer.units};
  }

  // Entries: weight (filters, C, kernel, kernel), bias (filters).
  void place(const Conv2d& layer, Model::Node& node) {
    require_image(node);
    const std::int64_t channels = node.input[0];
    const std::int64_t area = layer.kernel * layer.kernel;
    require_countable({layer.filters, channels, layer.kernel, layer.kernel});
    const AxisPadding padding = padding_of(layer);
    const std::int64_t window = layer.dilation * (layer.kernel - 1) + 1;
    const auto size = [&](int axis) {
      return slide(node.input[axis] + padding.before + padding.after, window, layer.stride, node);
    };
    node.output = {layer.filters, size(1), size(2)};
    add_weight(node, {layer.filters, channels, layer.kernel, layer.kernel}, layer.initializer,
               {.in = channels * area, .out = layer.filters * area});
    if (layer.bias) {
      add_vector(node, "bias", layer.filters, 0.0F);
    }
  }

  template <AnyOf<MaxPool, AveragePool> Pool>
  void place(const Pool& layer, Model::Node& node) {
    require_image(node);
    const auto size = [&](int axis) {
      return slide(node.input[axis], layer.kernel, stride_of(layer), node);
    };
    node.output = {node.input[0], size(1), size(2)};
  }

  void place(const GlobalAveragePool& /*layer*/, Model::Node& node) {
    require_image(node);
    node.output = {node.input[0]};
  }

  // Entries: gamma, beta, running_mean, running_variance, (C) each.
  void place(const BatchNorm& layer, Model::Node& node) {
    if (node.input.rank() != 1 && node.input.rank() != 3) {
      fail(fmt::format("shape of its input: got {}, expected (features) or (C, H, W)",
                       node.input.to_string()));
    }
    const std::int64_t channels = node.input[0];
    add_vector(node, "gamma", channels, 1.0F);
    add_vector(node, "beta", channels, 0.0F);
    add_statistic(node, "running_mean", channels, layer.momentum, 0.0F);
    add_statistic(node, "running_variance", channels, layer.momentum, 1.0F);
  }

  // Entry: weight (vocabulary, units).
  void place(const Embedding& layer, Model::Node& node) {
    if (position_ != std::vector<std::size_t>{0}) {
      fail("only the first layer of a model sees the numbers that samples hold");
    }
    if (node.input.rank() != 1) {
      fail(fmt::format("shape of its input: got {}, expected (length)", node.input.to_string()));
    }
    require_countable({layer.vocabulary, layer.units});
    add_entry(node, {.name = "weight", .shape = {layer.vocabulary, layer.units}},
              {.kind = EntryInitializer::Kind::kNormal, .value = 1.0F});
    node.output = {node.input[0], layer.units};
  }

  void place(const Flatten& /*layer*/, Model::Node& node) {
    node.output = {node.input.num_elements()};
  }

  void place(const Dropout& /*layer*/, Model::Node& node) {
    node.dropout_index = num_dropouts_++;
    built_.has_dropout = true;
  }

  void place(const Residual& layer, Model::Node& node) {
    if (nesting_ >= kMaxNesting) {
      fail(fmt::format("residual layers are nested more than {} deep", kMaxNesting));
    }
    const std::string path = path_;
    const std::string prefix = prefix_;
    node.body = build_list(layer.body, node.input, prefix, path + ", ", nesting_ + 1);
    path_ = path;
    position_.pop_back();
    node.output = node.body.back()->output;
    check_shortcut(node);
  }

  template <AnyOf<Relu, Tanh, Sigmoid> Activation>
  void place(const Activation& /*layer*/, Model::Node& /*node*/) {}

  std::int64_t slide(std::int64_t size, std::int64_t window, std::int64_t stride,
                     const Model::Node& node) const {
    if (size < window) {
      fail(fmt::format("window larger than its (padded) input: got {} of {}, expected at most {}",
                       window, node.input.to_string(), size));
    }
    return (size - window) / stride + 1;
  }

  // Option A: fewer pixels by a stride, more channels by zeros.
  void check_shortcut(const Model::Node& node) const {
    const Shape& in = node.input;
    const Shape& out = node.output;
    if (in == out) {
      return;
    }
    const bool images = in.rank() == 3 && out.rank() == 3;
    if (!images || shortcut_stride(in, out) == 0 || out[0] < in[0]) {
      fail(
          fmt::format("no shortcut without parameters from {} to {}: expected the same shape, or "
                      "images with height and width divided by one stride and no fewer channels",
                      in.to_string(), out.to_string()));
    }
  }

  BuiltNodes built_;
  std::int64_t num_dropouts_ = 0;
  // Of the layer in work:
  std::string prefix_;  // of its entries
  std::string path_;    // for messages
  std::vector<std::size_t> position_;
  int nesting_ = 0;
};

}  // namespace

AxisPadding padding_of(const Conv2d& layer) {
  if (layer.padding == Padding::kValid) {
    return {};
  }
  const std::int64_t total = layer.dilation * (layer.kernel - 1);
  return {.before = total / 2, .after = total - total / 2};
}

std::int64_t shortcut_stride(const Shape& in, const Shape& out) {
  const auto divide_up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
  const std::int64_t stride = std::max(divide_up(in[1], out[1]), divide_up(in[2], out[2]));
  const bool fits = divide_up(in[1], stride) == out[1] && divide_up(in[2], stride) == out[2];
  return fits ? stride : 0;
}

BuiltNodes build_nodes(const Sequential& layers, const Shape& sample_shape, int num_classes) {
  if (sample_shape.rank() < 1 || sample_shape.num_elements() < 1) {
    throw InvalidArgument("Model::build",
                          fmt::format("shape of a sample: got {}, expected at least "
                                      "one axis and one value",
                                      sample_shape.to_string()));
  }
  if (num_classes < 1) {
    throw InvalidArgument("Model::build",
                          fmt::format("num_classes: got {}, expected at least 1", num_classes));
  }
  Builder builder;
  Nodes nodes = builder.build_list(layers.layers, sample_shape, "", "", 0);
  const Shape output = nodes.empty() ? sample_shape : nodes.back()->output;
  if (output != Shape{num_classes}) {
    std::vector<std::size_t> last;
    if (!layers.layers.empty()) {
      last.push_back(layers.layers.size() - 1);
    }
    throw LayerError(std::move(last),
                     fmt::format("output of the last layer: got {}, expected ({}), "
                                 "one value per class",
                                 output.to_string(), num_classes));
  }
  return builder.finish(std::move(nodes));
}

}  // namespace superstep::worker
