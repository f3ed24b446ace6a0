#include "kernels/panel_kernel.h"

#include <utility>

#include "kernels/precision.h"
#include "kernels/rounded_operands.h"

namespace superstep::kernels {

namespace {

class PanelKernel final : public Kernel {
 public:
  explicit PanelKernel(PanelGemm product) : product_(std::move(product)) {}

  std::int64_t workspace_bytes() const override { return product_.workspace_bytes(); }
  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    product_.run(inputs[0].data<float>().data(), inputs[1].data<float>().data(),
                 outputs[0].mutable_data<float>().data(), workspace);
  }

 private:
  PanelGemm product_;
};

}  // namespace

std::unique_ptr<Kernel> panel_kernel(const OpSignature& signature, const GemmShape& shape,
                                     std::vector<int> folds) {
  const Precision precision = precision_of(signature.attributes);
  if (PanelGemm::supports(shape, static_cast<std::int64_t>(folds.size()), precision)) {
    return std::make_unique<PanelKernel>(PanelGemm(shape, std::move(folds), precision));
  }
  return with_rounded_operands(signature,
                               std::make_unique<PanelKernel>(PanelGemm(shape, std::move(folds))));
}

}  // namespace superstep::kernels
