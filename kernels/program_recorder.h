// First half of making a Program: run the function once and keep the ops its outputs depend on.
//
// Internal to Program. Values are numbered: inputs first, then the outputs of calls. A view has no
// call of its own: its `root` is the value whose memory it shows, from `offset` bytes on (0 unless
// a recording joins slots).
#pragma once

#include <span>
#include <vector>

#include "kernels/op.h"
#include "kernels/program.h"

namespace superstep::kernels::internal {

inline constexpr int kNoCall = -1;

struct RecordedValue {
  TensorType type;
  int call = kNoCall;       // that computes it; kNoCall: an input
  int root = 0;             // itself unless it is a view
  std::int64_t offset = 0;  // in bytes, from the beginning of the root
};

// Either a value or, when `value` is negative, a constant.
struct RecordedOperand {
  int value = -1;
  Tensor constant;
};

struct RecordedCall {
  const OpInfo* op = nullptr;
  Attributes attributes;
  std::vector<RecordedOperand> inputs;
  std::vector<int> outputs;  // values
  // Of the operands, one each; both empty: everything plain (kernels/layout_plan.h).
  std::vector<Layout> input_layouts;
  std::vector<Layout> output_layouts;
};

struct Recording {
  std::vector<TensorType> input_types;
  std::vector<TensorType> output_types;
  std::vector<RecordedValue> values;
  std::vector<RecordedCall> calls;  // in the order of execution, none is dead, none is a view
  std::vector<RecordedOperand> outputs;
};

Recording record_calls(std::span<const TensorType> inputs, const Program::Function& function);

}  // namespace superstep::kernels::internal
