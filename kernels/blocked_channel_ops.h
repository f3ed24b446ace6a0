// Bias and batch normalisation on images in channel blocks (kernels/layout.h): the bits of
// kernels/matrix_ops.cpp and kernels/batch_norm.cpp, which have the contracts. float32.
//
// Each is one pass per channel block and step, vectors of b channels wide; b x H x W x 4 bytes of a
// sample lie together.
#pragma once

#include "kernels/op.h"

namespace superstep::kernels {

// (x, bias) -> y
void run_blocked_bias_add(std::span<const Tensor> inputs, const Attributes&,
                          std::span<Tensor> outputs);
// (grad) -> (C)
void run_blocked_bias_add_backward(std::span<const Tensor> inputs, const Attributes&,
                                   std::span<Tensor> outputs);
// (x, gamma, beta) -> y, mean, variance
void run_blocked_batch_norm(std::span<const Tensor> inputs, const Attributes& attributes,
                            std::span<Tensor> outputs);
// (grad, x, gamma, mean, variance) -> dx, dgamma, dbeta
void run_blocked_batch_norm_backward(std::span<const Tensor> inputs, const Attributes& attributes,
                                     std::span<Tensor> outputs);
// (x, gamma, beta, mean, variance) -> y
void run_blocked_batch_norm_inference(std::span<const Tensor> inputs, const Attributes& attributes,
                                      std::span<Tensor> outputs);

// The row of the op table for a function that needs no preparation.
template <KernelFunction kFunction>
BlockedKernel blocked_function() {
  return {BlockedKernel::Operands::kUniform, Backend{},
          [](const OpSignature& signature, std::span<const Layout>, std::span<const Layout>) {
            return make_function_kernel(kFunction, signature.attributes);
          }};
}

}  // namespace superstep::kernels
