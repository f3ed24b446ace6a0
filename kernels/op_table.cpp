#include "kernels/op_table.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "kernels/binary_ops.h"
#include "kernels/conv_ops.h"
#include "kernels/elementwise_ops.h"
#include "kernels/embedding_ops.h"
#include "kernels/loss_ops.h"
#include "kernels/matrix_ops.h"
#include "kernels/norm_ops.h"
#include "kernels/pool_ops.h"
#include "kernels/random_ops.h"
#include "kernels/reduce_ops.h"
#include "kernels/shape_ops.h"
#include "kernels/space_to_batch_ops.h"
#include "kernels/tape_state.h"

namespace superstep::kernels {
namespace {

std::vector<OpInfo> build_table() {
  std::vector<OpInfo> table;
  for (const auto group :
       {binary_ops, conv_ops, matrix_ops, norm_ops, pool_ops, elementwise_ops, embedding_ops,
        loss_ops, random_ops, reduce_ops, shape_ops, space_to_batch_ops}) {
    std::vector<OpInfo> ops = group();
    std::move(ops.begin(), ops.end(), std::back_inserter(table));
  }
  std::sort(table.begin(), table.end(),
            [](const OpInfo& a, const OpInfo& b) { return a.name < b.name; });
  return table;
}

void require_defined(const OpInfo& op, std::span<const Tensor> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) {
      throw InvalidArgument(
          op.name, fmt::format("input {}: got an undefined tensor, expected a defined one", i));
    }
  }
}

std::vector<Tensor> run_kernel(const KernelEntry& entry, const OpSignature& signature,
                               std::span<const Tensor> inputs,
                               const std::vector<TensorType>& output_types) {
  std::vector<Tensor> outputs;
  outputs.reserve(output_types.size());
  for (const TensorType& type : output_types) {
    outputs.push_back(Tensor::uninitialized(type.shape, type.dtype));
  }
  const std::unique_ptr<Kernel> kernel = entry.make(signature);
  Tensor workspace = Tensor::uninitialized(Shape{kernel->workspace_bytes()}, DType::kUint8);
  kernel->run(inputs, outputs,
              {workspace.mutable_bytes(), static_cast<std::size_t>(workspace.num_bytes())});
  return outputs;
}

// only: null for any backend.
std::vector<Tensor> apply_op(const OpInfo& op, std::span<const Tensor> inputs,
                             const Attributes& attributes, const Backend* only) {
  require_defined(op, inputs);
  const std::vector<TensorType> input_types = types_of(inputs);
  const OpSignature signature{input_types, attributes};
  const std::vector<TensorType> output_types = op.infer(signature);
  std::vector<Tensor> outputs;
  if (op.is_view) {
    outputs.push_back(inputs[0].with_links(nullptr).viewed_as(output_types[0].shape));
  } else {
    const KernelEntry& entry =
        only == nullptr ? select_kernel(op, signature) : select_kernel(op, signature, *only);
    outputs = run_kernel(entry, signature, inputs, output_types);
  }
  internal::record_call(&op, inputs, attributes, nullptr, outputs);
  return outputs;
}

}  // namespace

std::span<const OpInfo> op_table() {
  static const std::vector<OpInfo> kTable = build_table();
  return kTable;
}

const OpInfo& find_op(std::string_view name) {
  const std::span<const OpInfo> table = op_table();
  const auto found =
      std::lower_bound(table.begin(), table.end(), name,
                       [](const OpInfo& op, std::string_view wanted) { return op.name < wanted; });
  if (found != table.end() && found->name == name) {
    return *found;
  }
  std::vector<std::string> names;
  for (const OpInfo& op : table) {
    names.emplace_back(op.name);
  }
  throw InvalidArgument(
      "find_op", fmt::format("no such op: got \"{}\", expected a name of the op table{}", name,
                             did_you_mean(name, names)));
}

std::vector<Tensor> apply(const OpInfo& op, std::span<const Tensor> inputs,
                          const Attributes& attributes) {
  return apply_op(op, inputs, attributes, nullptr);
}

std::vector<Tensor> apply(std::string_view op, std::span<const Tensor> inputs,
                          const Attributes& attributes) {
  return apply(find_op(op), inputs, attributes);
}

Tensor apply1(std::string_view op, std::initializer_list<Tensor> inputs,
              const Attributes& attributes) {
  std::vector<Tensor> outputs =
      apply(find_op(op), std::span<const Tensor>(inputs.begin(), inputs.size()), attributes);
  SUPERSTEP_CHECK(outputs.size() == 1, "apply1 of an op with", outputs.size(), "outputs");
  return std::move(outputs[0]);
}

std::vector<Tensor> apply_with(Backend backend, const OpInfo& op, std::span<const Tensor> inputs,
                               const Attributes& attributes) {
  return apply_op(op, inputs, attributes, &backend);
}

}  // namespace superstep::kernels
