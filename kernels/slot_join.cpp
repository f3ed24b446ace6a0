#include "kernels/slot_join.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/as_size.h"
#include "base/checked_cast.h"
#include "kernels/matmul_over_slots.h"
#include "kernels/op_table.h"
#include "kernels/slot_modes.h"
#include "kernels/slot_proofs.h"

namespace superstep::kernels::internal {
namespace {

constexpr std::int64_t kAlignment = 64;

std::int64_t bytes_of(const TensorType& type) {
  return type.shape.num_elements() * size_of(type.dtype);
}

class SlotJoiner {
 public:
  SlotJoiner(const Recording& one, const SlotPlan& plan)
      : one_(one),
        plan_(plan),
        modes_(one, plan),
        is_whole_(one.values.size(), false),
        whole_(one.values.size(), -1),
        parts_(one.values.size()) {}

  std::optional<Recording> run() {
    declare_inputs();
    mark_wholes();
    for (std::size_t begin = 0; begin < modes_.size();) {
      std::size_t end = begin + 1;
      while (end < modes_.size() && modes_[end] == modes_[begin] &&
             modes_[begin] == SlotMode::kBySlot) {
        ++end;
      }
      emit(begin, end);
      begin = end;
    }
    finish_outputs();
    if (!aligned_) {
      return std::nullopt;
    }
    return std::move(out_);
  }

 private:
  int num_slots() const { return modes_.num_slots(); }
  const RecordedValue& value(int index) const { return one_.values[as_size(index)]; }

  // -- values --

  int add_value(const TensorType& type, int root = -1, std::int64_t offset = 0) {
    const int index = checked_cast<int>(out_.values.size());
    out_.values.push_back({type, kNoCall, root < 0 ? index : root, offset});
    return index;
  }

  void declare_inputs() {
    for (std::size_t i = 0; i < one_.input_types.size(); ++i) {
      const TensorType& type = one_.input_types[i];
      whole_[i] = add_value(plan_.batched_inputs[i] ? repeated(type, num_slots()) : type);
      is_whole_[i] = true;
      out_.input_types.push_back(out_.values.back().type);
    }
  }

  // Values that calls over all slots read or write.
  void mark_wholes() {
    for (std::size_t i = 0; i < modes_.size(); ++i) {
      const RecordedCall& call = one_.calls[i];
      if (modes_[i] == SlotMode::kTogether || modes_[i] == SlotMode::kOverSlots) {
        for (const RecordedOperand& input : call.inputs) {
          mark_whole(input);
        }
      }
      if (modes_[i] == SlotMode::kTogether) {
        is_whole_[as_size(call.outputs[0])] = true;
      }
    }
    for (int i = 0; i < plan_.num_row_outputs; ++i) {
      mark_whole(one_.outputs[as_size(i)]);
    }
  }

  void mark_whole(const RecordedOperand& operand) {
    if (operand.value >= 0) {
      is_whole_[as_size(value(operand.value).root)] = true;
    }
  }

  // All slots' rows of a value, or a value they share.
  int whole(int index) {
    int& found = whole_[as_size(index)];
    if (found < 0) {
      const RecordedValue& v = value(index);
      const bool shared = modes_.is_shared(v.root);
      const TensorType type = shared ? v.type : repeated(v.type, num_slots());
      const int root = v.root == index ? -1 : out_.values[as_size(whole(v.root))].root;
      found = add_value(type, root);
    }
    return found;
  }

  // One slot's part.
  int part(int index, int slot) {
    const RecordedValue& v = value(index);
    if (modes_.is_shared(v.root)) {
      return whole(index);
    }
    std::vector<int>& parts = parts_[as_size(index)];
    if (parts.empty()) {
      parts.assign(as_size(num_slots()), -1);
    }
    if (parts[as_size(slot)] < 0) {
      if (v.root != index) {
        const RecordedValue root = out_.values[as_size(part(v.root, slot))];
        parts_[as_size(index)][as_size(slot)] = add_value(v.type, root.root, root.offset);
      } else if (is_whole_[as_size(index)]) {
        aligned_ = aligned_ && bytes_of(v.type) % kAlignment == 0;
        const int root = whole(index);
        parts[as_size(slot)] = add_value(v.type, root, slot * bytes_of(v.type));
      } else {
        parts[as_size(slot)] = add_value(v.type);
      }
    }
    return parts_[as_size(index)][as_size(slot)];
  }

  // -- calls --

  void append(const OpInfo* op, const Attributes& attributes, std::vector<RecordedOperand> inputs,
              std::vector<int> outputs) {
    const int index = checked_cast<int>(out_.calls.size());
    for (const int output : outputs) {
      out_.values[as_size(output)].call = index;
    }
    out_.calls.push_back({op, attributes, std::move(inputs), std::move(outputs), {}, {}});
  }

  void emit(std::size_t begin, std::size_t end) {
    switch (modes_[begin]) {
      case SlotMode::kOnce:
      case SlotMode::kTogether:
        emit_together(one_.calls[begin], modes_[begin]);
        return;
      case SlotMode::kOverSlots:
        emit_over_slots(one_.calls[begin]);
        return;
      case SlotMode::kBySlot:
        for (int slot = 0; slot < num_slots(); ++slot) {
          for (std::size_t i = begin; i < end; ++i) {
            emit_by_slot(one_.calls[i], slot);
          }
        }
    }
  }

  void emit_together(const RecordedCall& call, SlotMode mode) {
    std::vector<RecordedOperand> inputs;
    for (std::size_t i = 0; i < call.inputs.size(); ++i) {
      const RecordedOperand& input = call.inputs[i];
      if (input.value >= 0) {
        inputs.push_back({whole(input.value), {}});
      } else if (mode == SlotMode::kTogether && modes_.rows_of(call)[i]) {
        inputs.push_back({-1, repeat_rows(input.constant, num_slots())});
      } else {
        inputs.push_back(input);
      }
    }
    std::vector<int> outputs;
    for (const int output : call.outputs) {
      outputs.push_back(whole(output));
    }
    append(call.op, call.attributes, std::move(inputs), std::move(outputs));
  }

  void emit_by_slot(const RecordedCall& call, int slot) {
    std::vector<RecordedOperand> inputs;
    for (const RecordedOperand& input : call.inputs) {
      inputs.push_back(input.value < 0 ? input : RecordedOperand{part(input.value, slot), {}});
    }
    std::vector<int> outputs;
    for (const int output : call.outputs) {
      outputs.push_back(part(output, slot));
    }
    append(call.op, call.attributes, std::move(inputs), std::move(outputs));
    for (std::size_t i = as_size(plan_.num_row_outputs); i < one_.outputs.size(); ++i) {
      const int index = one_.outputs[i].value;
      if (index >= 0 && std::find(call.outputs.begin(), call.outputs.end(), value(index).root) !=
                            call.outputs.end()) {
        add_to_sum(i, {part(index, slot), {}}, plan_.folds[as_size(slot)]);
      }
    }
  }

  void emit_over_slots(const RecordedCall& call) {
    const std::size_t output = as_size(modes_.output_of(call.outputs[0]));
    const TensorType& type = value(call.outputs[0]).type;
    const std::vector<SlotGroup> all = modes_.groups_of(call);
    for (const SlotGroup& group : all) {
      std::vector<RecordedOperand> inputs;
      for (const RecordedOperand& input : call.inputs) {
        inputs.push_back({rows(input.value, group.begin, group.end), {}});
      }
      const int sum = add_value(type);
      append(&matmul_over_slots_op(), over_slots(call.attributes, group.folds), std::move(inputs),
             {sum});
      add_to_sum(output, {viewed(sum, modes_.type_of(one_.outputs[output])), {}},
                 group.folds_after);
    }
  }

  // The rows of slots [begin, end).
  int rows(int index, int begin, int end) {
    const int all = whole(index);
    if (end - begin == num_slots()) {
      return all;
    }
    const TensorType& type = value(index).type;
    aligned_ = aligned_ && bytes_of(type) % kAlignment == 0;
    return add_value(repeated(type, end - begin), out_.values[as_size(all)].root,
                     begin * bytes_of(type));
  }

  int viewed(int index, const TensorType& type) {
    return out_.values[as_size(index)].type == type ? index : add_value(type, index);
  }

  // -- sums over slots --

  void add_to_sum(std::size_t output, RecordedOperand term, int folds) {
    std::vector<RecordedOperand>& stack = sums_[output];
    stack.push_back(std::move(term));
    for (int fold = 0; fold < folds; ++fold) {
      RecordedOperand right = std::move(stack.back());
      stack.pop_back();
      const int sum = add_value(modes_.type_of(one_.outputs[output]));
      append(&find_op("add"), {}, {std::move(stack.back()), std::move(right)}, {sum});
      stack.back() = {sum, {}};
    }
  }

  void finish_outputs() {
    for (std::size_t i = 0; i < one_.outputs.size(); ++i) {
      const RecordedOperand& output = one_.outputs[i];
      const TensorType type = modes_.type_of(output);
      if (std::cmp_less(i, plan_.num_row_outputs)) {
        out_.outputs.push_back(output.value < 0
                                   ? RecordedOperand{-1, repeat_rows(output.constant, num_slots())}
                                   : RecordedOperand{whole(output.value), {}});
        out_.output_types.push_back(repeated(type, num_slots()));
        continue;
      }
      if (!sums_.contains(i)) {  // made together, or by no slot
        for (int slot = 0; slot < num_slots(); ++slot) {
          add_to_sum(i, output.value < 0 ? output : RecordedOperand{part(output.value, slot), {}},
                     plan_.folds[as_size(slot)]);
        }
      }
      SUPERSTEP_CHECK(sums_[i].size() == 1, "sums left over by the folds", sums_[i].size());
      out_.outputs.push_back(sums_[i][0]);
      out_.output_types.push_back(type);
    }
  }

  const Recording& one_;
  const SlotPlan& plan_;
  const SlotModes modes_;
  std::vector<bool> is_whole_;  // by root
  std::vector<int> whole_;
  std::vector<std::vector<int>> parts_;
  std::map<std::size_t, std::vector<RecordedOperand>> sums_;  // by output
  bool aligned_ = true;
  Recording out_;
};

}  // namespace

std::optional<Recording> join_slots(const Recording& one, const SlotPlan& plan) {
  SUPERSTEP_CHECK(plan.batched_inputs.size() == one.input_types.size(), "inputs of the plan",
                  plan.batched_inputs.size());
  return SlotJoiner(one, plan).run();
}

}  // namespace superstep::kernels::internal
