#include "kernels/tape_state.h"

#include <algorithm>
#include <utility>

namespace superstep::kernels::internal {
namespace {

std::span<const TapeLink> links_of(const Tensor& tensor) {
  return tensor.links() == nullptr ? std::span<const TapeLink>() : tensor.links()->links();
}

// In the order of the inputs, so that a run is the same each time.
std::vector<std::shared_ptr<TapeState>> recording_tapes(std::span<const Tensor> inputs) {
  std::vector<std::shared_ptr<TapeState>> tapes;
  for (const Tensor& input : inputs) {
    for (const TapeLink& link : links_of(input)) {
      std::shared_ptr<TapeState> tape = link.tape.lock();
      if (tape != nullptr && tape->is_recording &&
          std::find(tapes.begin(), tapes.end(), tape) == tapes.end()) {
        tapes.push_back(std::move(tape));
      }
    }
  }
  return tapes;
}

std::vector<std::int64_t> nodes_on(std::span<const Tensor> tensors, const TapeState& tape) {
  std::vector<std::int64_t> nodes;
  nodes.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    nodes.push_back(node_on(tensor, tape));
  }
  return nodes;
}

}  // namespace

std::int64_t node_on(const Tensor& tensor, const TapeState& tape) {
  // The newest link counts: a function with a gradient of its own may return one of its inputs.
  const std::span<const TapeLink> links = links_of(tensor);
  for (std::size_t i = links.size(); i-- > 0;) {
    if (links[i].tape.lock().get() == &tape) {
      return links[i].node;
    }
  }
  return kNoNode;
}

Tensor linked_to(const Tensor& tensor, const std::shared_ptr<TapeState>& tape) {
  std::vector<TapeLink> links;
  for (const TapeLink& link : links_of(tensor)) {
    if (!link.tape.expired()) {
      links.push_back(link);
    }
  }
  links.push_back({tape, tape->add_node()});
  return tensor.with_links(std::make_shared<const TapeLinks>(std::move(links)));
}

bool is_under_recording(const Tensor& tensor) {
  for (const TapeLink& link : links_of(tensor)) {
    const std::shared_ptr<TapeState> tape = link.tape.lock();
    if (tape != nullptr && tape->purpose == TapePurpose::kProgram && tape->is_recording) {
      return true;
    }
  }
  return false;
}

Tensor without_gradient_links(const Tensor& tensor) {
  std::vector<TapeLink> links;
  for (const TapeLink& link : links_of(tensor)) {
    const std::shared_ptr<TapeState> tape = link.tape.lock();
    if (tape != nullptr && tape->purpose == TapePurpose::kProgram) {
      links.push_back(link);
    }
  }
  return tensor.with_links(links.empty() ? nullptr
                                         : std::make_shared<const TapeLinks>(std::move(links)));
}

void record_call(const OpInfo* op, std::span<const Tensor> inputs, const Attributes& attributes,
                 const BackwardFunction& backward, std::span<Tensor> outputs) {
  std::vector<std::shared_ptr<TapeState>> tapes = recording_tapes(inputs);
  if (op == nullptr) {
    std::erase_if(tapes, [](const auto& tape) { return tape->purpose == TapePurpose::kProgram; });
  }
  for (const std::shared_ptr<TapeState>& tape : tapes) {
    for (Tensor& output : outputs) {
      output = linked_to(output, tape);
    }
  }
  // Written after all links exist: a gradient made on one tape must be seen by the others.
  for (const std::shared_ptr<TapeState>& tape : tapes) {
    tape->entries.push_back({.op = op,
                             .attributes = attributes,
                             .backward = backward,
                             .inputs = {inputs.begin(), inputs.end()},
                             .outputs = {outputs.begin(), outputs.end()},
                             .input_nodes = nodes_on(inputs, *tape),
                             .output_nodes = nodes_on(outputs, *tape)});
  }
}

}  // namespace superstep::kernels::internal
