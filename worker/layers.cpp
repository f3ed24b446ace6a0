#include "worker/layers.h"

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/window.h"
#include "worker/layer_fields.h"

namespace superstep::worker {

namespace {

std::string at_least(std::string_view name, std::int64_t value, std::int64_t least) {
  if (value >= least) {
    return {};
  }
  return fmt::format("{}: got {}, expected at least {}", name, value, least);
}

// What a window of the kernels can be.
std::string in_window(std::string_view name, std::int64_t value, std::int64_t least) {
  if (value >= least && value <= kernels::kLargestWindow) {
    return {};
  }
  return fmt::format("{}: got {}, expected {} to {}", name, value, least, kernels::kLargestWindow);
}

// Of values that are fine by themselves.
std::string extent_problem(const Conv2d& layer) {
  const std::int64_t extent = layer.dilation * (layer.kernel - 1) + 1;
  return extent <= kernels::kLargestWindow
             ? std::string()
             : fmt::format("dilation * (kernel - 1) + 1: got {}, expected at most {}", extent,
                           kernels::kLargestWindow);
}

template <typename... Problems>
std::string first_of(const Problems&... problems) {
  std::string first;
  ((first = first.empty() ? problems : first), ...);
  return first;
}

struct ProblemFinder {
  std::string operator()(const Dense& layer) const { return at_least("units", layer.units, 1); }
  std::string operator()(const Conv2d& layer) const {
    const std::string problem =
        first_of(at_least("filters", layer.filters, 1), in_window("kernel", layer.kernel, 1),
                 in_window("stride", layer.stride, 1), in_window("dilation", layer.dilation, 1));
    return problem.empty() ? extent_problem(layer) : problem;
  }
  template <AnyOf<MaxPool, AveragePool> Pool>
  std::string operator()(const Pool& layer) const {
    return first_of(in_window("kernel", layer.kernel, 1), in_window("stride", layer.stride, 0));
  }
  std::string operator()(const BatchNorm& layer) const {
    if (!(layer.epsilon > 0.0 && layer.epsilon < 1.0)) {
      return fmt::format("epsilon: got {}, expected more than 0 and less than 1", layer.epsilon);
    }
    if (!(layer.momentum > 0.0 && layer.momentum <= 1.0)) {
      return fmt::format("momentum: got {}, expected more than 0 and at most 1", layer.momentum);
    }
    return {};
  }
  std::string operator()(const Dropout& layer) const {
    if (!(layer.rate >= 0.0 && layer.rate < 1.0)) {
      return fmt::format("rate: got {}, expected at least 0 and less than 1", layer.rate);
    }
    return {};
  }
  std::string operator()(const Embedding& layer) const {
    return first_of(at_least("vocabulary", layer.vocabulary, 1), at_least("units", layer.units, 1));
  }
  std::string operator()(const Residual& layer) const {
    return layer.body.empty() ? "body: got no layers, expected at least 1" : "";
  }
  template <AnyOf<GlobalAveragePool, Relu, Tanh, Sigmoid, Flatten> Simple>
  std::string operator()(const Simple& /*layer*/) const {
    return {};
  }
};

}  // namespace

bool operator==(const Residual& a, const Residual& b) {
  return a.body == b.body;
}

std::string_view kind_of(const Layer& layer) {
  return kLayerKinds[layer.index()];
}

std::string_view name_of(Initializer initializer) {
  switch (initializer) {
    case Initializer::kHeNormal:
      return "he_normal";
    case Initializer::kGlorotUniform:
      return "glorot_uniform";
    case Initializer::kZeros:
      return "zeros";
  }
  SUPERSTEP_CHECK(false, "initializer");
  return {};
}

std::string_view name_of(Padding padding) {
  return padding == Padding::kValid ? "valid" : "same";
}

std::string problem_with(const Layer& layer) {
  return std::visit(ProblemFinder{}, layer);
}

}  // namespace superstep::worker
