#include "kernels/rounded_operands.h"

#include <utility>

#include "base/aligned.h"
#include "base/check.h"
#include "kernels/precision.h"

namespace superstep::kernels {
namespace {

class RoundedOperandsKernel final : public Kernel {
 public:
  RoundedOperandsKernel(std::span<const TensorType> operands, std::unique_ptr<Kernel> inner)
      : inner_(std::move(inner)) {
    for (const TensorType& type : operands) {
      SUPERSTEP_CHECK(type.dtype == DType::kFloat32, "bf16 for operands of", name_of(type.dtype));
      copies_.push_back(Tensor::uninitialized(type.shape, type.dtype));
      copies_.back().unbind();
      copy_bytes_ += padded_bytes(copies_.back().num_bytes());
    }
  }

  std::int64_t workspace_bytes() const override { return copy_bytes_ + inner_->workspace_bytes(); }

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    std::byte* memory = workspace.data();
    for (std::size_t i = 0; i < copies_.size(); ++i) {
      copies_[i].rebind(memory);
      memory += padded_bytes(copies_[i].num_bytes());
      round_to_bf16(inputs[i].data<float>(), copies_[i].mutable_data<float>());
    }
    inner_->run(copies_, outputs, workspace.subspan(static_cast<std::size_t>(copy_bytes_)));
  }

 private:
  std::unique_ptr<Kernel> inner_;
  mutable std::vector<Tensor> copies_;  // handles that run() puts on its workspace
  std::int64_t copy_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> with_rounded_operands(const OpSignature& signature,
                                              std::unique_ptr<Kernel> kernel) {
  if (kernel == nullptr || precision_of(signature.attributes) == Precision::kFloat32) {
    return kernel;
  }
  return std::make_unique<RoundedOperandsKernel>(signature.inputs, std::move(kernel));
}

}  // namespace superstep::kernels
