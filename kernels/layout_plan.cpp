#include "kernels/layout_plan.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>

#include "base/checked_cast.h"
#include "kernels/channel_blocks.h"

namespace superstep::kernels::internal {
namespace {

// ---- conversion, an op of its own that is in no table: tensors outside programs are plain ----

void run_to_blocks(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  to_channel_blocks(inputs[0].shape(), inputs[0].bytes(), outputs[0].mutable_bytes());
}

void run_to_plain(std::span<const Tensor> inputs, const Attributes&, std::span<Tensor> outputs) {
  from_channel_blocks(inputs[0].shape(), inputs[0].bytes(), outputs[0].mutable_bytes());
}

OpInfo conversion(std::string_view name, KernelEntry kernel) {
  OpInfo op;
  op.name = name;
  op.infer = [](const OpSignature& signature) {
    return std::vector<TensorType>{signature.inputs[0]};
  };
  op.kernels = {kernel};
  op.why_not_differentiable = "a conversion within a program that is recorded already";
  return op;
}

const OpInfo& conversion_to(Layout layout) {
  static const std::array<OpInfo, 2> ops = {
      conversion("to_plain", function_kernel<run_to_plain>()),
      conversion("to_channel_blocks", function_kernel<run_to_blocks>())};
  return ops[layout == Layout::kPlain ? 0 : 1];
}

// ---- the plan ----

class LayoutPlanner {
 public:
  explicit LayoutPlanner(Recording& recording)
      : recording_(recording), layouts_(recording.values.size(), Layout::kPlain) {}

  void run() {
    if (kChannelBlock == 0 || !has_profiting_convolution()) {
      return;
    }
    choose_layouts();
    std::vector<RecordedCall> calls = std::move(recording_.calls);
    recording_.calls.clear();
    for (RecordedCall& call : calls) {
      place(std::move(call));
    }
  }

 private:
  const RecordedValue& value(int index) const {
    return recording_.values[static_cast<std::size_t>(index)];
  }
  Layout& layout_of(int index) { return layouts_[static_cast<std::size_t>(index)]; }
  bool may_be_blocked(const RecordedOperand& operand) const {
    return operand.value >= 0 && kernels::may_be_blocked(value(operand.value).type.dtype,
                                                         value(operand.value).type.shape);
  }

  std::vector<TensorType> types_of(const RecordedCall& call) const {
    std::vector<TensorType> types;
    for (const RecordedOperand& input : call.inputs) {
      types.push_back(input.value >= 0
                          ? value(input.value).type
                          : TensorType{input.constant.dtype(), input.constant.shape()});
    }
    return types;
  }

  bool has_profiting_convolution() const {
    return std::any_of(
        recording_.calls.begin(), recording_.calls.end(), [&](const RecordedCall& call) {
          if (call.op->blocked.make == nullptr ||
              call.op->blocked.operands != BlockedKernel::Operands::kAny) {
            return false;
          }
          const std::vector<TensorType> types = types_of(call);
          return has_kernel(*call.op, {types, call.attributes}, call.op->blocked.backend);
        });
  }

  // Every image in blocks that may be: made by a call, no output of the program, seen as what it is
  // by everybody, and touched by at least one op that works on blocks.
  void choose_layouts() {
    std::vector<bool> wanted(layouts_.size(), false);
    for (const RecordedCall& call : recording_.calls) {
      if (call.op->blocked.make == nullptr) {
        continue;
      }
      for (const RecordedOperand& input : call.inputs) {
        if (input.value >= 0) {
          wanted[static_cast<std::size_t>(value(input.value).root)] = true;
        }
      }
      for (const int output : call.outputs) {
        wanted[static_cast<std::size_t>(output)] = true;
      }
    }
    for (std::size_t i = 0; i < layouts_.size(); ++i) {
      const RecordedValue& v = recording_.values[i];
      if (wanted[i] && v.call != kNoCall && kernels::may_be_blocked(v.type.dtype, v.type.shape)) {
        layouts_[i] = Layout::kChannelBlocks;
      }
    }
    for (const RecordedOperand& output : recording_.outputs) {
      if (output.value >= 0) {
        layout_of(value(output.value).root) = Layout::kPlain;
      }
    }
    for (std::size_t i = 0; i < layouts_.size(); ++i) {
      if (recording_.values[i].root != static_cast<int>(i)) {
        layout_of(recording_.values[i].root) = Layout::kPlain;
        layouts_[i] = Layout::kPlain;  // calls may write a part of a value
      }
    }
  }

  Layout layout_of(const RecordedOperand& operand) {
    return operand.value < 0 ? Layout::kPlain : layout_of(value(operand.value).root);
  }

  // The layouts a call is given: as they lie where the op takes any mixture, else blocks for all
  // images as soon as one lies so.
  void wish_layouts(RecordedCall& call) {
    bool any = false;
    for (const RecordedOperand& input : call.inputs) {
      call.input_layouts.push_back(layout_of(input));
      any = any || call.input_layouts.back() == Layout::kChannelBlocks;
    }
    for (const int output : call.outputs) {
      call.output_layouts.push_back(layout_of(output));
      any = any || call.output_layouts.back() == Layout::kChannelBlocks;
    }
    if (!any || call.op->blocked.operands == BlockedKernel::Operands::kAny) {
      return;
    }
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      if (may_be_blocked(call.inputs[i])) {
        call.input_layouts[i] = Layout::kChannelBlocks;
      }
    }
    for (std::size_t i = 0; i < call.outputs.size(); ++i) {
      if (may_be_blocked({call.outputs[i], {}})) {
        call.output_layouts[i] = Layout::kChannelBlocks;
      }
    }
  }

  static bool is_plain(const RecordedCall& call) {
    const auto plain = [](Layout layout) { return layout == Layout::kPlain; };
    return std::all_of(call.input_layouts.begin(), call.input_layouts.end(), plain) &&
           std::all_of(call.output_layouts.begin(), call.output_layouts.end(), plain);
  }

  void choose_kernel(RecordedCall& call) {
    wish_layouts(call);
    if (is_plain(call)) {
      call.input_layouts.clear();
      call.output_layouts.clear();
      return;
    }
    const std::vector<TensorType> types = types_of(call);
    const BlockedKernel& blocked = call.op->blocked;
    if (blocked.make == nullptr || blocked.make({types, call.attributes}, call.input_layouts,
                                                call.output_layouts) == nullptr) {
      std::fill(call.input_layouts.begin(), call.input_layouts.end(), Layout::kPlain);
      std::fill(call.output_layouts.begin(), call.output_layouts.end(), Layout::kPlain);
    }
  }

  int add_value(const TensorType& type, Layout layout) {
    const int index = checked_cast<int>(recording_.values.size());
    recording_.values.push_back({type, kNoCall, index, 0});
    layouts_.push_back(layout);
    return index;
  }

  void append(RecordedCall call) {
    const int index = checked_cast<int>(recording_.calls.size());
    for (const int output : call.outputs) {
      recording_.values[static_cast<std::size_t>(output)].call = index;
    }
    recording_.calls.push_back(std::move(call));
  }

  void convert(int from, int to, Layout layout) {
    append({&conversion_to(layout), {}, {{from, {}}}, {to}, {}, {}});
  }

  // The value in another layout than its own.
  int converted(int index, Layout layout) {
    const auto key = std::make_pair(index, layout);
    if (const auto found = conversions_.find(key); found != conversions_.end()) {
      return found->second;
    }
    const int other = add_value(value(index).type, layout);
    convert(index, other, layout);
    return conversions_.emplace(key, other).first->second;
  }

  // Appends the call with the conversions it needs around it.
  void place(RecordedCall call) {
    choose_kernel(call);
    std::vector<std::pair<int, int>> after;  // what the call writes, where it belongs
    for (std::size_t i = 0; i < call.input_layouts.size(); ++i) {
      if (layout_of(call.inputs[i]) != call.input_layouts[i]) {
        call.inputs[i].value = converted(call.inputs[i].value, call.input_layouts[i]);
      }
    }
    for (std::size_t i = 0; i < call.output_layouts.size(); ++i) {
      if (layout_of(call.outputs[i]) != call.output_layouts[i]) {
        const int target = call.outputs[i];
        call.outputs[i] = add_value(value(target).type, call.output_layouts[i]);
        after.emplace_back(call.outputs[i], target);
      }
    }
    if (is_plain(call)) {
      call.input_layouts.clear();
      call.output_layouts.clear();
    }
    append(std::move(call));
    for (const auto& [written, target] : after) {
      convert(written, target, layout_of(target));
      conversions_[{target, layout_of(written)}] = written;
    }
  }

  Recording& recording_;
  std::vector<Layout> layouts_;  // by value, of roots
  std::map<std::pair<int, Layout>, int> conversions_;
};

}  // namespace

void plan_layouts(Recording& recording) {
  LayoutPlanner(recording).run();
}

}  // namespace superstep::kernels::internal
