#include "kernels/op.h"

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::kernels {
namespace {

class FunctionKernel final : public Kernel {
 public:
  FunctionKernel(KernelFunction function, const Attributes& attributes)
      : function_(function), attributes_(attributes) {}

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte>) const override {
    function_(inputs, attributes_, outputs);
  }

 private:
  KernelFunction function_;
  Attributes attributes_;
};

bool serves(const KernelEntry& entry, const OpSignature& signature) {
  return entry.supports == nullptr || entry.supports(signature);
}

}  // namespace

std::string_view name_of(Backend backend) {
  switch (backend) {
    case Backend::kReference:
      return "reference";
    case Backend::kEigen:
      return "eigen";
    case Backend::kOneDnn:
      return "onednn";
    case Backend::kNative:
      return "native";
  }
  SUPERSTEP_CHECK(false, "unknown backend", static_cast<int>(backend));
}

std::unique_ptr<Kernel> make_function_kernel(KernelFunction function,
                                             const Attributes& attributes) {
  return std::make_unique<FunctionKernel>(function, attributes);
}

const KernelEntry& select_kernel(const OpInfo& op, const OpSignature& signature) {
  for (const KernelEntry& entry : op.kernels) {
    if (serves(entry, signature)) {
      return entry;
    }
  }
  throw InvalidArgument(
      op.name,
      fmt::format("no kernel serves this call: got {} with {{{}}}, expected another dtype or shape",
                  to_string(signature.inputs), signature.attributes.to_string()));
}

const KernelEntry& select_kernel(const OpInfo& op, const OpSignature& signature, Backend only) {
  for (const KernelEntry& entry : op.kernels) {
    if (entry.backend == only && serves(entry, signature)) {
      return entry;
    }
  }
  throw InvalidArgument(
      op.name,
      fmt::format(
          "backend {} does not serve this call: got {} with {{{}}}, expected another backend",
          name_of(only), to_string(signature.inputs), signature.attributes.to_string()));
}

bool has_kernel(const OpInfo& op, const OpSignature& signature, Backend backend) {
  for (const KernelEntry& entry : op.kernels) {
    if (entry.backend == backend && serves(entry, signature)) {
      return true;
    }
  }
  return false;
}

double flops_of(const OpInfo& op, const OpSignature& signature) {
  if (op.flops != nullptr) {
    return op.flops(signature);
  }
  if (op.is_view) {
    return 0.0;
  }
  double elements = 0.0;
  for (const TensorType& type : op.infer(signature)) {
    elements += static_cast<double>(type.shape.num_elements());
  }
  return elements;
}

std::vector<TensorType> types_of(std::span<const Tensor> tensors) {
  std::vector<TensorType> types;
  types.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    types.push_back({tensor.dtype(), tensor.shape()});
  }
  return types;
}

std::string to_string(const TensorType& type) {
  return fmt::format("{} {}", name_of(type.dtype), type.shape.to_string());
}

std::string to_string(std::span<const TensorType> types) {
  std::string text;
  for (const TensorType& type : types) {
    text += text.empty() ? "" : ", ";
    text += to_string(type);
  }
  return text;
}

}  // namespace superstep::kernels
