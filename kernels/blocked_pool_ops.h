// Pooling of images in channel blocks (kernels/layout.h): the bits of kernels/pool_ops.h, which has
// the contracts. float32; argmax lies as its values do, each entry a position within the plane.
#pragma once

#include "kernels/op.h"
#include "kernels/window.h"

namespace superstep::kernels {

// (x) -> y, argmax
std::unique_ptr<Kernel> make_blocked_max_pool(const Window& window);
// (grad, argmax) -> dx. The caller has checked the positions of argmax.
void blocked_max_pool_backward(const Tensor& grad, const Tensor& argmax, Tensor& dx);

enum class PoolPass : std::uint8_t { kForward, kBackward };
// (x) -> y, or (dy) -> dx
std::unique_ptr<Kernel> make_blocked_average_pool(PoolPass pass, const Window& window);

// (N, C, H, W) in blocks -> (N, C), and its adjoint
void run_blocked_global_average_pool(std::span<const Tensor> inputs, const Attributes&,
                                     std::span<Tensor> outputs);
void run_blocked_global_average_pool_backward(std::span<const Tensor> inputs, const Attributes&,
                                              std::span<Tensor> outputs);

}  // namespace superstep::kernels
