// What an op is: its name, shape inference, kernels by backend, gradient, flops.
//
// An op call is pure: outputs are a function of inputs and attributes (dropout's randomness comes
// in as an input). Shape inference runs before any kernel and throws InvalidArgument that names the
// op, the argument and both values. A kernel is made once per (dtypes, shapes, attributes) and run
// many times: eager execution makes and runs it at once, a recorded Program keeps it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attributes.h"
#include "kernels/layout.h"
#include "kernels/tensor.h"

namespace superstep::kernels {

struct TensorType {
  DType dtype = DType::kFloat32;
  Shape shape;
  friend bool operator==(const TensorType&, const TensorType&) = default;
};

struct OpSignature {
  std::span<const TensorType> inputs;
  const Attributes& attributes;
};

// kReference: plain loops; kNative: registers of the build's instruction set.
enum class Backend : std::uint8_t { kReference, kEigen, kOneDnn, kNative };
std::string_view name_of(Backend backend);

// Prepared for one signature. run() is const and allocates nothing; a Kernel may be used by one
// thread at a time.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual std::int64_t workspace_bytes() const { return 0; }
  // outputs are preallocated with the inferred types; workspace is 64-byte aligned. Output 0 may be
  // the memory of an input that OpInfo::in_place names.
  virtual void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
                   std::span<std::byte> workspace) const = 0;
};

using KernelFunction = void (*)(std::span<const Tensor> inputs, const Attributes& attributes,
                                std::span<Tensor> outputs);
// A kernel without preparation or workspace. Keeps a copy of the attributes.
std::unique_ptr<Kernel> make_function_kernel(KernelFunction function, const Attributes& attributes);

struct KernelEntry {
  Backend backend = Backend::kReference;
  bool (*supports)(const OpSignature&) = nullptr;  // null: every signature
  std::unique_ptr<Kernel> (*make)(const OpSignature&) = nullptr;
};

// The entry of a function that serves every signature its op accepts.
template <KernelFunction kFunction>
KernelEntry function_kernel(Backend backend = Backend::kReference) {
  return {backend, nullptr, [](const OpSignature& signature) {
            return make_function_kernel(kFunction, signature.attributes);
          }};
}

// Everything a gradient function may use. All tensors keep their tape links, so that a gradient
// made of ops can be differentiated again.
struct GradientContext {
  const Attributes& attributes;
  std::span<const Tensor> inputs;
  std::span<const Tensor> outputs;
  std::span<const Tensor> output_gradients;  // undefined where nothing flows back
  std::span<const bool> needs_input_gradient;
};
// One gradient per input; an undefined tensor where none is needed or none exists.
using GradientFunction = std::vector<Tensor> (*)(const GradientContext&);

// Recipe for the central-difference check in float64 and for benchmarks: valid calls of this op.
struct ExampleCall {
  std::vector<TensorType> inputs;
  Attributes attributes;
  // Per input: values are drawn uniformly from [low, high); integer inputs below `high`.
  std::vector<std::pair<double, double>> ranges;
};

struct OpInfo {
  std::string_view name;
  std::vector<TensorType> (*infer)(const OpSignature&) = nullptr;
  std::vector<KernelEntry> kernels;         // first supported one wins
  GradientFunction gradient = nullptr;      // null: not differentiable (gradient() names the op)
  std::string_view why_not_differentiable;  // set exactly when gradient is null
  double (*flops)(const OpSignature&) = nullptr;  // null: counted as one per output element
  std::vector<ExampleCall> (*examples)() = nullptr;
  BlockedKernel blocked;  // used by recorded programs alone
  // Bit i: output 0 may overwrite input i when they have one type. Used by recorded programs alone.
  std::uint8_t in_place = 0;
  bool is_view = false;  // output 0 shares the storage of input 0
};

// The kernel that serves a signature: the first supported one, or the first supported one of
// `only`. Throws InvalidArgument that names the op and the signature when there is none.
const KernelEntry& select_kernel(const OpInfo& op, const OpSignature& signature);
const KernelEntry& select_kernel(const OpInfo& op, const OpSignature& signature, Backend only);
bool has_kernel(const OpInfo& op, const OpSignature& signature, Backend backend);

double flops_of(const OpInfo& op, const OpSignature& signature);
std::vector<TensorType> types_of(std::span<const Tensor> tensors);
std::string to_string(const TensorType& type);             // "float32 (64, 10)"
std::string to_string(std::span<const TensorType> types);  // "float32 (64, 10), int64 (64)"

}  // namespace superstep::kernels
