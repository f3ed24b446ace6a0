#include "worker/metrics.h"

#include <cmath>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"

namespace superstep::worker {

namespace {

using kernels::DType;
using kernels::Tensor;

template <typename T>
std::int64_t argmax(std::span<const T> row) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (std::isnan(row[i])) {
      return kNoPrediction;
    }
    if (row[i] > row[best]) {
      best = i;
    }
  }
  return static_cast<std::int64_t>(best);
}

// Calls visit(sample, prediction) for every row.
template <typename T, typename Visitor>
void for_each_prediction(const Tensor& logits, Visitor visit) {
  const auto classes = static_cast<std::size_t>(logits.shape()[1]);
  const std::span<const T> values = logits.data<T>();
  const auto samples = static_cast<std::size_t>(logits.shape()[0]);
  for (std::size_t i = 0; i < samples; ++i) {
    visit(i, argmax(values.subspan(i * classes, classes)));
  }
}

template <typename Visitor>
void for_each_prediction(std::string_view where, const Tensor& logits, Visitor visit) {
  if (logits.shape().rank() != 2 || logits.shape()[1] < 1) {
    throw InvalidArgument(where, fmt::format("shape of logits: got {}, expected (samples, classes)",
                                             logits.shape().to_string()));
  }
  if (logits.dtype() == DType::kFloat32) {
    for_each_prediction<float>(logits, visit);
  } else if (logits.dtype() == DType::kFloat64) {
    for_each_prediction<double>(logits, visit);
  } else {
    throw InvalidArgument(where, fmt::format("dtype of logits: got {}, expected float32 or float64",
                                             kernels::name_of(logits.dtype())));
  }
}

}  // namespace

std::vector<std::int64_t> predict_classes(const Tensor& logits) {
  std::vector<std::int64_t> classes;
  for_each_prediction("predict_classes", logits,
                      [&](std::size_t, std::int64_t predicted) { classes.push_back(predicted); });
  return classes;
}

std::int64_t count_correct(const Tensor& logits, const Tensor& labels) {
  constexpr std::string_view kWhere = "count_correct";
  if (labels.dtype() != DType::kInt64 || labels.shape().rank() != 1 || logits.shape().rank() < 1 ||
      labels.shape()[0] != logits.shape()[0]) {
    throw InvalidArgument(kWhere,
                          fmt::format("labels: got {} {}, expected int64, one per row of logits {}",
                                      kernels::name_of(labels.dtype()), labels.shape().to_string(),
                                      logits.shape().to_string()));
  }
  const std::span<const std::int64_t> expected = labels.data<std::int64_t>();
  std::int64_t correct = 0;
  for_each_prediction(kWhere, logits, [&](std::size_t i, std::int64_t predicted) {
    correct += predicted == expected[i] ? 1 : 0;
  });
  return correct;
}

}  // namespace superstep::worker
