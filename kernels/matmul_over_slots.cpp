#include "kernels/matmul_over_slots.h"

#include <utility>
#include <vector>

#include "base/checked_cast.h"
#include "kernels/panel_kernel.h"
#include "kernels/signature_checks.h"
#include "kernels/threads.h"

namespace superstep::kernels {
namespace {

constexpr std::string_view kName = "matmul_over_slots";

GemmShape product_of(const OpSignature& signature) {
  const Shape& a = signature.inputs[0].shape;
  return {.m = a[1], .n = signature.inputs[1].shape[1], .k = a[0], .transpose_a = true};
}

std::vector<TensorType> infer(const OpSignature& signature) {
  expect_floating_inputs(kName, signature, {"a", "b"});
  expect_precision(kName, signature);
  expect_rank(kName, "a", signature.inputs[0], 2);
  expect_rank(kName, "b", signature.inputs[1], 2);
  const GemmShape shape = product_of(signature);
  expect_shape(kName, "b", signature.inputs[1], Shape{shape.k, shape.n});
  return {{signature.inputs[0].dtype, Shape{shape.m, shape.n}}};
}

OpInfo make_op() {
  OpInfo op;
  op.name = kName;
  op.infer = &infer;
  op.kernels = {
      {Backend::kNative, nullptr, [](const OpSignature& signature) -> std::unique_ptr<Kernel> {
         std::vector<int> folds;
         for (const std::int64_t count : signature.attributes.integers("folds")) {
           folds.push_back(checked_cast<int>(count));
         }
         return panel_kernel(signature, product_of(signature), std::move(folds));
       }}};
  op.why_not_differentiable = "a sum within a program that is recorded already";
  op.flops = [](const OpSignature& signature) {
    const GemmShape shape = product_of(signature);
    return 2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
           static_cast<double>(shape.k);
  };
  return op;
}

}  // namespace

int max_slots_of_matmul(const TensorType& a, const TensorType& b, std::int64_t rows) {
  if (a.dtype != DType::kFloat32 || team_size() != 1 || a.shape.rank() != 2 ||
      b.shape.rank() != 2) {
    return 0;
  }
  constexpr int kMostSlots = 1024;
  int most = 0;
  for (int slots = 1; slots <= kMostSlots; slots *= 2) {
    if (PanelGemm::supports(
            {.m = a.shape[1], .n = b.shape[1], .k = slots * rows, .transpose_a = true}, slots)) {
      most = slots;
    }
  }
  return most > 1 ? most : 0;
}

Attributes over_slots(const Attributes& matmul, std::span<const int> folds) {
  return with_precision({{"folds", std::vector<std::int64_t>(folds.begin(), folds.end())}},
                        precision_of(matmul));
}

const OpInfo& matmul_over_slots_op() {
  static const OpInfo op = make_op();
  return op;
}

}  // namespace superstep::kernels
