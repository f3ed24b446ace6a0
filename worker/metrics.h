// Counting correct predictions.
//
//   summary.num_correct = count_correct(logits, labels);
//
// The prediction is the class with the largest logit, the first one on ties. A sample whose logits
// hold a NaN has no prediction and is never correct.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace superstep::worker {

inline constexpr std::int64_t kNoPrediction = -1;

// logits (N, C) float32 or float64 -> N classes, or kNoPrediction. Throws InvalidArgument for
// another shape or dtype.
std::vector<std::int64_t> predict_classes(const kernels::Tensor& logits);

// labels: int64 (N). Allocates nothing.
std::int64_t count_correct(const kernels::Tensor& logits, const kernels::Tensor& labels);

}  // namespace superstep::worker
