// Eager execution with gradients: a tape records the ops applied to the tensors it watches.
//
//   Tape tape;
//   Tensor w = tape.watch(weights);
//   Tensor loss = sum(cross_entropy(matmul(x, w), labels));
//   std::vector<Tensor> gradients = tape.gradient(loss, {w});
//
// Tapes nest: watching on an outer tape a tensor that an inner one watches links it to both, and
// since gradients are made of ops, the outer tape can differentiate the inner tape's gradient.
// There is no active-tape global: the links travel with the tensors, so ranks in one process never
// meet. Contributions of several uses of a tensor are added by `add` ops in a fixed order: the
// latest recorded use first, and within one call its inputs from left to right. A once-only tape
// stops recording when gradient() is called; a persistent tape records its own gradients too, so
// that they can be differentiated again, and grows with each call until it is destroyed. A Tape
// belongs to one thread; linked tensors may outlive it (they are then constants to it).
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

namespace internal {
class TapeState;
}

enum class Persistence : std::uint8_t { kOnce, kPersistent };  // may gradient() be called again?
enum class Unconnected : std::uint8_t {
  kNone,
  kZero
};  // gradient of what the target does not depend on

class Tape {
 public:
  explicit Tape(Persistence persistence = Persistence::kOnce);
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  ~Tape();

  // A handle to the same storage whose ops are recorded here (besides tapes it is already linked
  // to). A tensor that is already linked to this tape comes back as it is. Throws InvalidArgument
  // unless the tensor is floating point.
  Tensor watch(const Tensor& tensor);
  // d sum(target) / d source for each source (vector-Jacobian product with ones, or with `seed`).
  // Throws InvalidArgument naming the op that is not differentiable, or a tape already used up.
  std::vector<Tensor> gradient(const Tensor& target, std::span<const Tensor> sources,
                               Unconnected unconnected = Unconnected::kNone);
  std::vector<Tensor> gradient(const Tensor& target, std::initializer_list<Tensor> sources,
                               Unconnected unconnected = Unconnected::kNone);
  std::vector<Tensor> gradient(const Tensor& target, const Tensor& seed,
                               std::span<const Tensor> sources,
                               Unconnected unconnected = Unconnected::kNone);

 private:
  std::shared_ptr<internal::TapeState> state_;
  Persistence persistence_;
};

// The same values, but no gradient flows through (on any tape; programs under recording still see
// it).
Tensor stop_gradient(const Tensor& tensor);

// A function with a gradient of its own: forward(inputs) -> outputs; backward(inputs, outputs,
// output gradients) -> one gradient per input (undefined: none). Gradients flow to `inputs` only,
// not to tensors the functions capture. Tapes see one call with this gradient; backward is made of
// ops, so outer tapes can differentiate it; a program under recording sees the ops of both
// functions. An undefined output gradient (nothing flows back) reaches backward as zeros.
using ForwardFunction = std::function<std::vector<Tensor>(std::span<const Tensor>)>;
using BackwardFunction = std::function<std::vector<Tensor>(
    std::span<const Tensor> inputs, std::span<const Tensor> outputs,
    std::span<const Tensor> output_gradients)>;
std::vector<Tensor> custom_gradient(std::span<const Tensor> inputs, const ForwardFunction& forward,
                                    const BackwardFunction& backward);

}  // namespace superstep::kernels
