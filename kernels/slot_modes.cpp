#include "kernels/slot_modes.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <utility>

#include "kernels/matmul_over_slots.h"
#include "kernels/slot_proofs.h"

namespace superstep::kernels::internal {

namespace {

// Ops whose output rows are functions of the same rows of these inputs, and of whole other inputs.
struct RowRule {
  std::string_view op;
  std::uint8_t row_inputs = 0;  // bit i: input i
  bool elementwise = false;     // inputs of the output's shape are rows, smaller ones are shared
};
constexpr std::array<RowRule, 16> kRowRules{{{"matmul", 0b1, false},
                                             {"bias_add", 0b1, false},
                                             {"cross_entropy", 0b11, false},
                                             {"cross_entropy_backward", 0b111, false},
                                             {"dropout", 0b11, false},
                                             {"softmax", 0b1, false},
                                             {"relu", 0b1, true},
                                             {"tanh", 0b1, true},
                                             {"sigmoid", 0b1, true},
                                             {"relu_backward", 0b11, true},
                                             {"tanh_backward", 0b11, true},
                                             {"sigmoid_backward", 0b11, true},
                                             {"add", 0b11, true},
                                             {"sub", 0b11, true},
                                             {"mul", 0b11, true},
                                             {"neg", 0b1, true}}};

bool flag(const Attributes& attributes, std::string_view name) {
  return attributes.contains(name) && attributes.boolean(name);
}

}  // namespace

SlotModes::SlotModes(const Recording& one, const SlotPlan& plan)
    : one_(one), plan_(plan), is_shared_(one.values.size(), false) {
  choose_modes();
}

void SlotModes::choose_modes() {
  for (std::size_t i = 0; i < one_.input_types.size(); ++i) {
    is_shared_[i] = !plan_.batched_inputs[i];
    if (plan_.batched_inputs[i]) {
      samples_ = one_.input_types[i].shape[0];
    }
  }
  count_uses();
  for (const RecordedCall& call : one_.calls) {
    modes_.push_back(mode_of(call));
    for (const int output : call.outputs) {
      is_shared_[as_size(output)] = modes_.back() == SlotMode::kOnce;
    }
  }
}

void SlotModes::count_uses() {
  uses_.assign(one_.values.size(), 0);
  for (const RecordedCall& call : one_.calls) {
    for (const RecordedOperand& input : call.inputs) {
      if (input.value >= 0) {
        ++uses_[as_size(value(input.value).root)];
      }
    }
  }
  for (const RecordedOperand& output : one_.outputs) {
    if (output.value >= 0) {
      ++uses_[as_size(value(output.value).root)];
    }
  }
}

SlotMode SlotModes::mode_of(const RecordedCall& call) {
  if (std::all_of(call.inputs.begin(), call.inputs.end(),
                  [&](const RecordedOperand& input) { return reads_shared(input); })) {
    return SlotMode::kOnce;
  }
  if (std::vector<bool> rows = rows_of_call(call); !rows.empty()) {
    if (rows_are_independent(call, types_of(call), rows, num_slots())) {
      rows_of_calls_[&call] = std::move(rows);
      return SlotMode::kTogether;
    }
    return SlotMode::kBySlot;
  }
  return is_sum_over_slots(call) ? SlotMode::kOverSlots : SlotMode::kBySlot;
}

// Which inputs of a call are rows; empty: it cannot be made together.
std::vector<bool> SlotModes::rows_of_call(const RecordedCall& call) const {
  const auto* const rule = std::find_if(kRowRules.begin(), kRowRules.end(),
                                        [&](const RowRule& r) { return r.op == call.op->name; });
  if (rule == kRowRules.end() || call.outputs.size() != 1 || flag(call.attributes, "transpose_a")) {
    return {};
  }
  const TensorType& output = value(call.outputs[0]).type;
  if (!has_rows(output) || output.shape.rank() > 2) {
    return {};
  }
  std::vector<bool> rows;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    const RecordedOperand& input = call.inputs[i];
    const TensorType type = type_of(input);
    const bool listed = ((rule->row_inputs >> i) & 1U) != 0;
    const bool row = rule->elementwise ? type.shape == output.shape : listed;
    if (row &&
        (!has_rows(type) || type.shape.rank() > 2 || (reads_shared(input) && input.value >= 0))) {
      return {};
    }
    if (!row && (!reads_shared(input) || (rule->elementwise && type.shape.rank() > 0))) {
      return {};
    }
    rows.push_back(row);
  }
  return rows;
}

std::vector<SlotGroup> SlotModes::groups(int slots_per_group) const {
  std::vector<SlotGroup> all;
  for (int begin = 0; begin < num_slots(); begin += slots_per_group) {
    const int end = std::min(begin + slots_per_group, num_slots());
    SlotGroup group{begin, end, {plan_.folds.begin() + begin, plan_.folds.begin() + end}, 0};
    const int sum = std::accumulate(group.folds.begin(), group.folds.end(), 0);
    group.folds_after = sum - (end - begin - 1);
    group.folds.back() -= group.folds_after;
    all.push_back(std::move(group));
  }
  return all;
}

int SlotModes::group_size(const RecordedCall& call) const {
  return std::min(
      std::max(1, max_slots_of_matmul(type_of(call.inputs[0]), type_of(call.inputs[1]), samples_)),
      num_slots());
}

// x^T dy that goes nowhere but into an output that is summed.
bool SlotModes::is_sum_over_slots(const RecordedCall& call) const {
  if (call.op->name != "matmul" || !flag(call.attributes, "transpose_a") ||
      flag(call.attributes, "transpose_b") || uses_[as_size(call.outputs[0])] != 1 ||
      output_of(call.outputs[0]) < plan_.num_row_outputs) {
    return false;
  }
  for (const RecordedOperand& input : call.inputs) {
    if (reads_shared(input) || !has_rows(type_of(input))) {
      return false;
    }
  }
  const int size = group_size(call);
  if (size < 2) {
    return false;
  }
  std::vector<std::vector<int>> proven;
  for (const SlotGroup& group : groups(size)) {
    if (std::find(proven.begin(), proven.end(), group.folds) == proven.end()) {
      if (!sums_over_slots_agree(call, types_of(call), group.folds)) {
        return false;
      }
      proven.push_back(group.folds);
    }
  }
  return true;
}

int SlotModes::output_of(int index) const {
  for (std::size_t i = 0; i < one_.outputs.size(); ++i) {
    if (one_.outputs[i].value >= 0 && value(one_.outputs[i].value).root == index) {
      return checked_cast<int>(i);
    }
  }
  return -1;
}

TensorType SlotModes::type_of(const RecordedOperand& operand) const {
  return operand.value >= 0 ? value(operand.value).type
                            : TensorType{operand.constant.dtype(), operand.constant.shape()};
}
std::vector<TensorType> SlotModes::types_of(const RecordedCall& call) const {
  std::vector<TensorType> types;
  for (const RecordedOperand& input : call.inputs) {
    types.push_back(type_of(input));
  }
  return types;
}

}  // namespace superstep::kernels::internal
