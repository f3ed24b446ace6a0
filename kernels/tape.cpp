#include "kernels/tape.h"

#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/op_table.h"
#include "kernels/tape_state.h"

namespace superstep::kernels {
namespace {

using internal::kNoNode;
using internal::TapeEntry;
using internal::TapeState;

Tensor ones_like(const Tensor& tensor) {
  return Tensor::full(tensor.shape(), tensor.dtype(), 1.0);
}

Tensor zeros_like(const Tensor& tensor) {
  return Tensor::zeros(tensor.shape(), tensor.dtype());
}

// One reverse sweep over the calls recorded so far.
class ReverseSweep {
 public:
  ReverseSweep(const TapeState& tape, const Tensor& target, const Tensor& seed,
               std::span<const Tensor> sources)
      : tape_(tape),
        num_entries_(tape.entries.size()),
        depends_(static_cast<std::size_t>(tape.num_nodes), false),
        gradients_(static_cast<std::size_t>(tape.num_nodes)) {
    mark_dependents(sources);
    add(internal::node_on(target, tape_), seed);
  }

  void run() {
    for (std::size_t i = num_entries_; i-- > 0;) {
      step(tape_.entries[i]);
    }
  }

  Tensor gradient_of(const Tensor& source) const {
    const std::int64_t node = internal::node_on(source, tape_);
    return node == kNoNode ? Tensor() : gradients_[static_cast<std::size_t>(node)];
  }

 private:
  bool depends(std::int64_t node) const {
    return node != kNoNode && depends_[static_cast<std::size_t>(node)];
  }

  void mark_dependents(std::span<const Tensor> sources) {
    for (const Tensor& source : sources) {
      const std::int64_t node = internal::node_on(source, tape_);
      if (node != kNoNode) {
        depends_[static_cast<std::size_t>(node)] = true;
      }
    }
    for (std::size_t i = 0; i < num_entries_; ++i) {
      const TapeEntry& entry = tape_.entries[i];
      bool reached = false;
      for (const std::int64_t node : entry.input_nodes) {
        reached = reached || depends(node);
      }
      for (const std::int64_t node : entry.output_nodes) {
        depends_[static_cast<std::size_t>(node)] = depends(node) || reached;
      }
    }
  }

  void add(std::int64_t node, const Tensor& gradient) {
    if (node == kNoNode || !gradient.defined()) {
      return;
    }
    Tensor& sum = gradients_[static_cast<std::size_t>(node)];
    sum = sum.defined() ? apply1("add", {sum, gradient}) : gradient;
  }

  void step(const TapeEntry& entry) {
    std::vector<Tensor> output_gradients;
    bool arrives = false;
    for (const std::int64_t node : entry.output_nodes) {
      output_gradients.push_back(gradients_[static_cast<std::size_t>(node)]);
      arrives = arrives || output_gradients.back().defined();
    }
    const std::unique_ptr<bool[]> needs = std::make_unique<bool[]>(entry.inputs.size());
    bool wanted = false;
    for (std::size_t i = 0; i < entry.inputs.size(); ++i) {
      needs[i] = depends(entry.input_nodes[i]) && is_floating_point(entry.inputs[i].dtype());
      wanted = wanted || needs[i];
    }
    if (!arrives || !wanted) {
      return;
    }
    const std::vector<Tensor> gradients =
        entry.op != nullptr
            ? op_gradient(entry, output_gradients, {needs.get(), entry.inputs.size()})
            : custom_gradient_of(entry, output_gradients);
    distribute(entry, gradients, {needs.get(), entry.inputs.size()});
  }

  static std::vector<Tensor> op_gradient(const TapeEntry& entry,
                                         std::span<const Tensor> output_gradients,
                                         std::span<const bool> needs) {
    if (entry.op->gradient == nullptr) {
      throw InvalidArgument(
          "Tape::gradient",
          fmt::format("op {} is not differentiable: {}; use stop_gradient on its inputs if "
                      "no gradient is meant to flow",
                      entry.op->name, entry.op->why_not_differentiable));
    }
    return entry.op->gradient(
        {entry.attributes, entry.inputs, entry.outputs, output_gradients, needs});
  }

  static std::vector<Tensor> custom_gradient_of(const TapeEntry& entry,
                                                std::vector<Tensor> output_gradients) {
    for (std::size_t i = 0; i < output_gradients.size(); ++i) {
      if (!output_gradients[i].defined()) {
        output_gradients[i] = zeros_like(entry.outputs[i]);
      }
    }
    return entry.backward(entry.inputs, entry.outputs, output_gradients);
  }

  void distribute(const TapeEntry& entry, std::span<const Tensor> gradients,
                  std::span<const bool> needs) {
    const std::string_view name = entry.op != nullptr ? entry.op->name : "custom_gradient";
    if (gradients.size() != entry.inputs.size()) {
      throw InvalidArgument(name,
                            fmt::format("number of gradients: got {}, expected one per input, {}",
                                        gradients.size(), entry.inputs.size()));
    }
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!needs[i] || !gradients[i].defined()) {
        continue;
      }
      const TensorType got{gradients[i].dtype(), gradients[i].shape()};
      const TensorType expected{entry.inputs[i].dtype(), entry.inputs[i].shape()};
      if (got != expected) {
        throw InvalidArgument(name, fmt::format("gradient of input {}: got {}, expected {}", i,
                                                to_string(got), to_string(expected)));
      }
      add(entry.input_nodes[i], gradients[i]);
    }
  }

  const TapeState& tape_;
  const std::size_t num_entries_;  // a persistent tape grows behind them
  std::vector<bool> depends_;      // on a source
  std::vector<Tensor> gradients_;  // by node
};

void require_gradient_target(const Tensor& target, const Tensor& seed) {
  if (!target.defined() || !is_floating_point(target.dtype())) {
    throw InvalidArgument(
        "Tape::gradient",
        fmt::format("target: got {}, expected a float32 or float64 tensor",
                    target.defined() ? name_of(target.dtype()) : "an undefined tensor"));
  }
  if (seed.dtype() != target.dtype() || seed.shape() != target.shape()) {
    throw InvalidArgument("Tape::gradient",
                          fmt::format("seed: got {}, expected the target's type {}",
                                      to_string({seed.dtype(), seed.shape()}),
                                      to_string({target.dtype(), target.shape()})));
  }
}

}  // namespace

Tape::Tape(Persistence persistence)
    : state_(std::make_shared<TapeState>(internal::TapePurpose::kGradient)),
      persistence_(persistence) {}

Tape::~Tape() = default;

Tensor Tape::watch(const Tensor& tensor) {
  if (!tensor.defined() || !is_floating_point(tensor.dtype())) {
    throw InvalidArgument("Tape::watch", fmt::format("tensor: got {}, expected float32 or float64",
                                                     tensor.defined() ? name_of(tensor.dtype())
                                                                      : "an undefined one"));
  }
  return internal::node_on(tensor, *state_) != kNoNode ? tensor
                                                       : internal::linked_to(tensor, state_);
}

std::vector<Tensor> Tape::gradient(const Tensor& target, const Tensor& seed,
                                   std::span<const Tensor> sources, Unconnected unconnected) {
  require_gradient_target(target, seed);
  if (persistence_ == Persistence::kOnce) {
    if (!state_->is_recording) {
      throw InvalidArgument("Tape::gradient",
                            "tape is used up: got a second call, expected one; make the tape "
                            "with Persistence::kPersistent");
    }
    state_->is_recording = false;
  }
  ReverseSweep sweep(*state_, target, seed, sources);
  sweep.run();
  std::vector<Tensor> gradients;
  gradients.reserve(sources.size());
  for (const Tensor& source : sources) {
    gradients.push_back(sweep.gradient_of(source));
    if (!gradients.back().defined() && unconnected == Unconnected::kZero) {
      gradients.back() = zeros_like(source);
    }
  }
  if (persistence_ == Persistence::kOnce) {
    state_->entries.clear();  // frees the intermediate tensors
  }
  return gradients;
}

std::vector<Tensor> Tape::gradient(const Tensor& target, std::span<const Tensor> sources,
                                   Unconnected unconnected) {
  return gradient(target, target.defined() ? ones_like(target) : Tensor(), sources, unconnected);
}

std::vector<Tensor> Tape::gradient(const Tensor& target, std::initializer_list<Tensor> sources,
                                   Unconnected unconnected) {
  return gradient(target, std::span<const Tensor>(sources.begin(), sources.size()), unconnected);
}

Tensor stop_gradient(const Tensor& tensor) {
  return internal::without_gradient_links(tensor);
}

std::vector<Tensor> custom_gradient(std::span<const Tensor> inputs, const ForwardFunction& forward,
                                    const BackwardFunction& backward) {
  std::vector<Tensor> constants;
  constants.reserve(inputs.size());
  for (const Tensor& input : inputs) {
    constants.push_back(internal::without_gradient_links(input));
  }
  std::vector<Tensor> outputs = forward(constants);
  for (Tensor& output : outputs) {
    output = internal::without_gradient_links(output);
  }
  internal::record_call(nullptr, inputs, {}, backward, outputs);
  return outputs;
}

}  // namespace superstep::kernels
