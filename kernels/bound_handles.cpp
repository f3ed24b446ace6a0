#include "kernels/bound_handles.h"

#include "base/as_size.h"

namespace superstep::kernels::internal {

BoundHandles::BoundHandles(std::span<const Binding> bindings, std::span<const Tensor> inputs,
                           std::span<const Tensor> outputs)
    : bindings_(bindings) {
  for (const Binding& binding : bindings_) {
    const std::span<const Tensor> tensors =
        binding.place.kind == Place::Kind::kInput ? inputs : outputs;
    const Tensor& tensor = tensors[as_size(binding.place.index)];
    if (tensor.num_elements() == binding.handle->num_elements()) {
      binding.handle->rebind(tensor);
    } else {
      binding.handle->rebind(tensor, binding.offset);
    }
  }
}

BoundHandles::~BoundHandles() {
  for (const Binding& binding : bindings_) {
    binding.handle->unbind();
  }
}

}  // namespace superstep::kernels::internal
