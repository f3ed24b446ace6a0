// The ops as typed functions: what models and gradients are written with.
//
//   Tensor hidden = relu(bias_add(matmul(x, w), b));
//   Tensor loss = mean(cross_entropy(logits, labels));
//   Tensor y = conv2d(x, filter, {.stride = {2, 2}, .padding = {1, 1, 1, 1}});
//
// Each allocates its result, runs at once and is recorded on the tapes its inputs are linked to
// (kernels/tape.h). Wrong arguments throw InvalidArgument that names op, argument and both values.
// Shapes: N samples, C channels, H x W pixels, F features. docs/ops.md lists the table behind.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/precision.h"
#include "kernels/tensor.h"

namespace superstep::kernels {

// Element by element; shapes broadcast as in NumPy.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor scale(const Tensor& x, double factor);  // mul by a constant of x's dtype

Tensor neg(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);  // 1 / sqrt(x)
Tensor square(const Tensor& x);
Tensor relu(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor greater_than_zero(const Tensor& x);  // 1 or 0 in x's dtype; not differentiable
// Between all dtypes, as static_cast does; to bool: x != 0. Differentiable between floating ones.
Tensor cast(const Tensor& x, DType dtype);

// Reductions. Summation order is fixed by the shape alone (kernels/reduce_ops.h).
struct ReduceOptions {
  std::vector<std::int64_t> axes;
  bool keep_dims = false;
};
Tensor sum(const Tensor& x);  // of all elements: a scalar
Tensor sum(const Tensor& x, const ReduceOptions& options);
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, const ReduceOptions& options);
Tensor broadcast_to(const Tensor& x, const Shape& shape);
Tensor sum_to(const Tensor& x, const Shape& shape);  // the transpose of broadcast_to

// Shapes.
Tensor reshape(const Tensor& x, const Shape& shape);  // a view: no copy
Tensor flatten(const Tensor& x);                      // (N, ...) -> (N, F), a view
Tensor transpose(const Tensor& x, const std::vector<std::int64_t>& permutation);
Tensor concat(std::span<const Tensor> parts, std::int64_t axis);
Tensor slice(const Tensor& x, const std::vector<std::int64_t>& begin,
             const std::vector<std::int64_t>& size);
struct PadOptions {
  std::vector<std::int64_t> before;  // one per axis
  std::vector<std::int64_t> after;
  double value = 0.0;
};
Tensor pad(const Tensor& x, const PadOptions& options);
// (N, C, H, W) -> (N bh bw, C, (H + top + bottom) / bh, (W + left + right) / bw); sample n of phase
// (i, j) goes to (i bw + j) N + n. A convolution dilated by the block size is an ordinary one in
// between.
struct SpaceToBatchOptions {
  std::array<std::int64_t, 2> block = {1, 1};
  std::array<std::int64_t, 4> padding = {0, 0, 0, 0};  // top, bottom, left, right
};
Tensor space_to_batch(const Tensor& x, const SpaceToBatchOptions& options);
// The inverse; padding is cut off.
Tensor batch_to_space(const Tensor& x, const SpaceToBatchOptions& options);

// Losses.
Tensor softmax(const Tensor& x);      // over the last axis
Tensor log_softmax(const Tensor& x);  // over the last axis
// logits (N, C), labels (N) int32 or int64 -> losses (N). A label outside 0 ... C-1 throws.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels);

// table (V, D), ids of any shape, int32 or int64 -> ids' shape + (D). An id outside 0 ... V-1
// throws.
Tensor embedding_lookup(const Tensor& table, const Tensor& ids);

// Keeps each element with probability 1 - rate and scales it by 1 / (1 - rate). What is dropped is
// a function of seed, epoch, sample id, op_index and the element's place in its sample, nothing
// else.
struct DropoutOptions {
  double rate = 0.5;
  std::int64_t op_index = 0;  // which dropout of the model this is
};
// x (N, ...), sample_ids int64 (N), key int64 (2) = {seed, epoch}
Tensor dropout(const Tensor& x, const Tensor& sample_ids, const Tensor& key,
               const DropoutOptions& options);

// Products. a (M, K), b (K, N) -> (M, N); a transposed operand is stored the other way round.
// Precision: kernels/precision.h; gradients have it too.
struct MatmulOptions {
  bool transpose_a = false;
  bool transpose_b = false;
  Precision precision = Precision::kFloat32;
};
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options = {});
Tensor bias_add(const Tensor& x, const Tensor& bias);  // x (N, C) or (N, C, H, W), bias (C)

// Images. Padding: top, bottom, left, right.
struct Conv2dOptions {
  std::array<std::int64_t, 2> stride = {1, 1};
  std::array<std::int64_t, 4> padding = {0, 0, 0, 0};
  std::array<std::int64_t, 2> dilation = {1, 1};
  Precision precision = Precision::kFloat32;
};
// x (N, C, H, W), filter (O, C, KH, KW) -> (N, O, OH, OW)
Tensor conv2d(const Tensor& x, const Tensor& filter, const Conv2dOptions& options = {});

struct PoolOptions {
  std::array<std::int64_t, 2> kernel = {2, 2};
  std::array<std::int64_t, 2> stride = {2, 2};
  std::array<std::int64_t, 4> padding = {0, 0, 0, 0};
};
Tensor max_pool(const Tensor& x, const PoolOptions& options = {});
Tensor average_pool(const Tensor& x, const PoolOptions& options = {});  // padding is not counted
Tensor global_average_pool(const Tensor& x);                            // (N, C, H, W) -> (N, C)

// Batch normalisation of x (N, C, ...) per channel, by the statistics of the given samples.
struct BatchNormOutputs {
  Tensor y;
  Tensor mean;      // (C)
  Tensor variance;  // (C), biased
};
inline constexpr double kBatchNormEpsilon = 1e-5;
BatchNormOutputs batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                            double epsilon = kBatchNormEpsilon);
Tensor batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                            const Tensor& mean, const Tensor& variance,
                            double epsilon = kBatchNormEpsilon);

}  // namespace superstep::kernels
