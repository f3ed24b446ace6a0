#include "kernels/program_recorder.h"

#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/checked_cast.h"
#include "base/error.h"
#include "kernels/tape_state.h"

namespace superstep::kernels::internal {
namespace {

class Recorder {
 public:
  Recorder(std::span<const TensorType> input_types, const Program::Function& function) {
    tape_ = std::make_shared<TapeState>(TapePurpose::kProgram);
    std::vector<Tensor> inputs;
    for (const TensorType& type : input_types) {
      inputs.push_back(linked_to(Tensor::zeros(type.shape, type.dtype), tape_));
      recorded_memory_.insert(inputs.back().bytes());
      add_value(type, kNoCall);
    }
    const std::vector<Tensor> outputs = function(inputs);
    tape_->is_recording = false;
    recording_.input_types.assign(input_types.begin(), input_types.end());
    number_values();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].defined()) {
        throw InvalidArgument(
            "Program::record",
            fmt::format("output {}: got an undefined tensor, expected a defined one", i));
      }
      recording_.outputs.push_back(operand(outputs[i], fmt::format("output {}", i)));
      recording_.output_types.push_back({outputs[i].dtype(), outputs[i].shape()});
    }
  }

  Recording finish() {
    std::vector<bool> needed(recording_.values.size(), false);
    for (const RecordedOperand& output : recording_.outputs) {
      mark(output, needed);
    }
    std::vector<RecordedCall> calls;
    for (std::size_t i = recording_.calls.size(); i-- > 0;) {
      RecordedCall& call = recording_.calls[i];
      bool alive = false;
      for (const int value : call.outputs) {
        alive = alive || needed[static_cast<std::size_t>(value)];
      }
      if (!alive) {
        continue;
      }
      for (const RecordedOperand& input : call.inputs) {
        mark(input, needed);
      }
      calls.push_back(std::move(call));
    }
    recording_.calls.clear();
    for (std::size_t i = calls.size(); i-- > 0;) {
      append(std::move(calls[i]));
    }
    return std::move(recording_);
  }

 private:
  int add_value(const TensorType& type, int call) {
    const int value = checked_cast<int>(recording_.values.size());
    recording_.values.push_back({type, call, value, 0});
    return value;
  }

  // Nodes of the tape are numbered in the order of the entries, so node and value agree.
  void number_values() {
    for (const TapeEntry& entry : tape_->entries) {
      for (const Tensor& output : entry.outputs) {
        recorded_memory_.insert(output.bytes());
      }
    }
    for (const TapeEntry& entry : tape_->entries) {
      RecordedCall call{entry.op, entry.attributes, {}, {}, {}, {}};
      for (std::size_t i = 0; i < entry.inputs.size(); ++i) {
        call.inputs.push_back(
            operand(entry.inputs[i], fmt::format("input {} of {}", i, entry.op->name)));
      }
      for (std::size_t i = 0; i < entry.outputs.size(); ++i) {
        const Tensor& output = entry.outputs[i];
        const int value = add_value({output.dtype(), output.shape()}, kNoCall);
        SUPERSTEP_CHECK(value == entry.output_nodes[i], "order of nodes", value,
                        entry.output_nodes[i]);
        call.outputs.push_back(value);
      }
      if (entry.op->is_view) {
        recording_.values.back().root =
            recording_.values[static_cast<std::size_t>(call.inputs[0].value)].root;
      } else {
        recording_.calls.push_back(std::move(call));
      }
    }
  }

  RecordedOperand operand(const Tensor& tensor, const std::string& role) const {
    const std::int64_t node = node_on(tensor, *tape_);
    if (node != kNoNode) {
      return {checked_cast<int>(node), {}};
    }
    if (recorded_memory_.contains(tensor.bytes())) {
      throw InvalidArgument(
          "Program::record",
          fmt::format("{}: got a recorded tensor without its links, expected one with "
                      "them; use reshape and stop_gradient in place of viewed_as and detached",
                      role));
    }
    return {-1, tensor.detached()};
  }

  void mark(const RecordedOperand& operand, std::vector<bool>& needed) const {
    if (operand.value >= 0) {
      needed[static_cast<std::size_t>(
          recording_.values[static_cast<std::size_t>(operand.value)].root)] = true;
    }
  }

  void append(RecordedCall call) {
    const int index = checked_cast<int>(recording_.calls.size());
    for (const int value : call.outputs) {
      recording_.values[static_cast<std::size_t>(value)].call = index;
    }
    recording_.calls.push_back(std::move(call));
  }

  std::shared_ptr<TapeState> tape_;
  std::unordered_set<const std::byte*> recorded_memory_;
  Recording recording_;
};

}  // namespace

Recording record_calls(std::span<const TensorType> inputs, const Program::Function& function) {
  return Recorder(inputs, function).finish();
}

}  // namespace superstep::kernels::internal
