#include "kernels/program.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/checked_cast.h"
#include "base/clock.h"
#include "base/error.h"
#include "kernels/bound_handles.h"
#include "kernels/fuse_calls.h"
#include "kernels/layout_plan.h"
#include "kernels/memory_plan.h"
#include "kernels/precision.h"
#include "kernels/program_recorder.h"
#include "kernels/slot_join.h"

namespace superstep::kernels {
namespace {

using internal::Binding;
using internal::BoundHandles;
using internal::kNoCall;
using internal::Place;
using internal::RecordedCall;
using internal::RecordedOperand;
using internal::RecordedValue;
using internal::Recording;

struct Instruction {
  const OpInfo* op = nullptr;
  Backend backend = Backend::kReference;
  std::unique_ptr<Kernel> kernel;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  std::span<std::byte> workspace;
};

// An output that no kernel writes directly: an input, a constant, or a value that is an output
// already.
struct Copy {
  Tensor source;
  int output = 0;
};

}  // namespace

struct Program::State {
  Recording recording;
  std::vector<Place> places;  // of the roots
  std::vector<BufferLifetime> lifetimes;
  MemoryPlan plan;
  Tensor arena;
  std::vector<Instruction> instructions;
  std::vector<Copy> copies;
  std::vector<Binding> bindings;
  double flops = 0.0;
};

namespace {

// Second half of making a Program: kernels, places, handles.
class Planner {
 public:
  explicit Planner(Recording recording) : state_(std::make_unique<Program::State>()) {
    state_->recording = std::move(recording);
    internal::plan_layouts(state_->recording);
    make_kernels();
    place_inputs_and_outputs();
    place_the_rest();
    make_handles();
    bind_handles();
  }

  std::unique_ptr<Program::State> finish() { return std::move(state_); }

 private:
  const RecordedValue& value(int index) const { return state_->recording.values[as_size(index)]; }
  int root(int index) const { return value(index).root; }
  Place& place_of(int index) { return state_->places[as_size(root(index))]; }

  void make_kernels() {
    for (const RecordedCall& call : state_->recording.calls) {
      std::vector<TensorType> types;
      for (const RecordedOperand& input : call.inputs) {
        types.push_back(input.value >= 0
                            ? value(input.value).type
                            : TensorType{input.constant.dtype(), input.constant.shape()});
      }
      const OpSignature signature{types, call.attributes};
      state_->flops += flops_of(*call.op, signature);
      if (!call.input_layouts.empty()) {
        const BlockedKernel& blocked = call.op->blocked;
        state_->instructions.push_back(
            {call.op,
             blocked.backend,
             blocked.make(signature, call.input_layouts, call.output_layouts),
             {},
             {},
             {}});
        continue;
      }
      const KernelEntry& entry = select_kernel(*call.op, signature);
      state_->instructions.push_back({call.op, entry.backend, entry.make(signature), {}, {}, {}});
    }
  }

  void place_inputs_and_outputs() {
    const Recording& recording = state_->recording;
    state_->places.resize(recording.values.size());
    for (int i = 0; i < checked_cast<int>(recording.input_types.size()); ++i) {
      state_->places[as_size(i)] = {Place::Kind::kInput, i};
    }
    for (int i = 0; i < checked_cast<int>(recording.outputs.size()); ++i) {
      const RecordedOperand& output = recording.outputs[as_size(i)];
      if (output.value >= 0 && place_of(output.value).kind == Place::Kind::kNowhere) {
        place_of(output.value) = {Place::Kind::kOutput, i};
      }
    }
  }

  // By root: the last step that reads the value.
  std::vector<int> last_reads() const {
    std::vector<int> steps(state_->recording.values.size(), -1);
    for (std::size_t step = 0; step < state_->recording.calls.size(); ++step) {
      for (const RecordedOperand& input : state_->recording.calls[step].inputs) {
        if (input.value >= 0) {
          steps[as_size(root(input.value))] = checked_cast<int>(step);
        }
      }
    }
    return steps;
  }

  static std::int64_t bytes_of(const RecordedValue& value) {
    return value.type.shape.num_elements() * size_of(value.type.dtype);
  }
  bool is_all_of_its_root(int index) const {
    return bytes_of(value(index)) == bytes_of(value(root(index)));
  }

  // The input whose memory output 0 of a step takes over: one that nobody reads any more.
  int overwritten_input(int step, const std::vector<int>& last_read) {
    const RecordedCall& call = state_->recording.calls[as_size(step)];
    const TensorType& type = value(call.outputs[0]).type;
    if (!is_all_of_its_root(call.outputs[0])) {
      return -1;
    }
    for (int i = 0; i < checked_cast<int>(call.inputs.size()); ++i) {
      const int input = call.inputs[as_size(i)].value;
      if (((call.op->in_place >> i) & 1U) != 0 && input >= 0 && value(input).type == type &&
          is_all_of_its_root(input) && place_of(input).kind == Place::Kind::kArena &&
          last_read[as_size(root(input))] == step) {
        return input;
      }
    }
    return -1;
  }

  void place_the_rest() {
    const std::vector<int> last_read = last_reads();
    for (int step = 0; step < checked_cast<int>(state_->instructions.size()); ++step) {
      const RecordedCall& call = state_->recording.calls[as_size(step)];
      for (const RecordedOperand& input : call.inputs) {
        if (input.value >= 0 && place_of(input.value).kind == Place::Kind::kArena) {
          state_->lifetimes[as_size(place_of(input.value).index)].last = step;
        }
      }
      const int overwritten = overwritten_input(step, last_read);
      for (const int output : call.outputs) {
        if (place_of(output).kind == Place::Kind::kNowhere && output == call.outputs[0] &&
            overwritten >= 0) {
          place_of(output) = place_of(overwritten);
        } else if (place_of(output).kind == Place::Kind::kNowhere) {
          place_of(output) = {Place::Kind::kArena, add_buffer(bytes_of(value(root(output))), step)};
        }
        if (place_of(output).kind == Place::Kind::kArena) {
          state_->lifetimes[as_size(place_of(output).index)].last = step;
        }
      }
      workspace_buffers_.push_back(
          add_buffer(state_->instructions[as_size(step)].kernel->workspace_bytes(), step));
    }
    state_->plan = plan_memory(state_->lifetimes);
    state_->arena = Tensor::uninitialized({state_->plan.arena_bytes}, DType::kUint8);
  }

  int add_buffer(std::int64_t bytes, int step) {
    state_->lifetimes.push_back({bytes, step, step});
    return checked_cast<int>(state_->lifetimes.size()) - 1;
  }

  std::byte* arena_memory(int buffer) {
    return state_->arena.mutable_bytes() + state_->plan.offsets[as_size(buffer)];
  }

  Tensor handle_of(const RecordedOperand& operand) {
    if (operand.value < 0) {
      return operand.constant;
    }
    const TensorType& type = value(operand.value).type;
    const Place place = place_of(operand.value);
    // Handles to the caller's memory stand on the arena until run() binds them.
    return Tensor::borrow(type.shape, type.dtype,
                          place.kind == Place::Kind::kArena
                              ? arena_memory(place.index) + value(operand.value).offset
                              : state_->arena.mutable_bytes());
  }

  void make_handles() {
    for (std::size_t step = 0; step < state_->instructions.size(); ++step) {
      Instruction& instruction = state_->instructions[step];
      const RecordedCall& call = state_->recording.calls[step];
      for (const RecordedOperand& input : call.inputs) {
        instruction.inputs.push_back(handle_of(input));
      }
      for (const int output : call.outputs) {
        instruction.outputs.push_back(handle_of({output, {}}));
      }
      const int buffer = workspace_buffers_[step];
      instruction.workspace = {arena_memory(buffer),
                               static_cast<std::size_t>(state_->lifetimes[as_size(buffer)].bytes)};
    }
    for (int i = 0; i < checked_cast<int>(state_->recording.outputs.size()); ++i) {
      const RecordedOperand& output = state_->recording.outputs[as_size(i)];
      const bool is_written = output.value >= 0 &&
                              place_of(output.value).kind == Place::Kind::kOutput &&
                              place_of(output.value).index == i;
      if (!is_written) {
        state_->copies.push_back({handle_of(output), i});
      }
    }
  }

  // Last: handles do not move any more.
  void bind_handles() {
    for (std::size_t step = 0; step < state_->instructions.size(); ++step) {
      Instruction& instruction = state_->instructions[step];
      const RecordedCall& call = state_->recording.calls[step];
      for (std::size_t i = 0; i < call.inputs.size(); ++i) {
        bind(instruction.inputs[i], call.inputs[i]);
      }
      for (std::size_t i = 0; i < call.outputs.size(); ++i) {
        bind(instruction.outputs[i], {call.outputs[i], {}});
      }
    }
    for (Copy& copy : state_->copies) {
      bind(copy.source, state_->recording.outputs[as_size(copy.output)]);
    }
  }

  void bind(Tensor& handle, const RecordedOperand& operand) {
    if (operand.value < 0) {
      return;
    }
    const Place place = place_of(operand.value);
    if (place.kind != Place::Kind::kArena) {
      state_->bindings.push_back({&handle, place, value(operand.value).offset});
    }
  }

  std::unique_ptr<Program::State> state_;
  std::vector<int> workspace_buffers_;  // by step
};

void expect_types(std::string_view role, std::span<const Tensor> tensors,
                  std::span<const TensorType> types) {
  if (tensors.size() != types.size()) {
    throw InvalidArgument("Program::run", fmt::format("number of {}s: got {}, expected {}", role,
                                                      tensors.size(), types.size()));
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].defined() || tensors[i].dtype() != types[i].dtype ||
        tensors[i].shape() != types[i].shape) {
      throw InvalidArgument(
          "Program::run",
          fmt::format("{} {}: got {}, expected {}", role, i,
                      tensors[i].defined() ? to_string({tensors[i].dtype(), tensors[i].shape()})
                                           : "an undefined tensor",
                      to_string(types[i])));
    }
  }
}

OpTiming timing_of(const Instruction& instruction, const Attributes& attributes,
                   std::vector<double> seconds) {
  const std::vector<TensorType> types = types_of(instruction.inputs);
  const bool rounded = precision_of(attributes) == Precision::kBfloat16;
  OpTiming timing{
      .call = fmt::format("{}({}){} [{}]", instruction.op->name, kernels::to_string(types),
                          rounded ? " in bf16" : "", name_of(instruction.backend)),
      .flops = flops_of(*instruction.op, {types, attributes})};
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  timing.seconds = *middle;
  for (const auto* tensors : {&instruction.inputs, &instruction.outputs}) {
    for (const Tensor& tensor : *tensors) {
      timing.bytes += static_cast<double>(tensor.num_bytes());
    }
  }
  return timing;
}

std::string describe(const RecordedOperand& operand, const Recording& recording) {
  if (operand.value < 0) {
    return fmt::format("constant {}", operand.constant.shape().to_string());
  }
  const int root = recording.values[as_size(operand.value)].root;
  return root == operand.value
             ? fmt::format("%{}", root)
             : fmt::format("%{} as {}", root,
                           recording.values[as_size(operand.value)].type.shape.to_string());
}

Recording record_fused(std::span<const TensorType> inputs, const Program::Function& function) {
  Recording recording = internal::record_calls(inputs, function);
  internal::fuse_calls(recording);
  return recording;
}

}  // namespace

Program::Program(std::unique_ptr<State> state) : state_(std::move(state)) {}
Program::Program(Program&&) noexcept = default;
Program& Program::operator=(Program&&) noexcept = default;
Program::~Program() = default;

Program Program::record(std::span<const TensorType> inputs, const Function& function) {
  return Program(Planner(record_fused(inputs, function)).finish());
}

std::optional<Program> Program::record_slots(std::span<const TensorType> inputs,
                                             const Function& function, const SlotPlan& plan) {
  std::optional<Recording> joined = internal::join_slots(record_fused(inputs, function), plan);
  if (!joined.has_value()) {
    return std::nullopt;
  }
  return Program(Planner(*std::move(joined)).finish());
}

std::span<const TensorType> Program::input_types() const {
  return state_->recording.input_types;
}

std::span<const TensorType> Program::output_types() const {
  return state_->recording.output_types;
}

void Program::run(std::span<const Tensor> inputs, std::span<Tensor> outputs) {
  expect_types("input", inputs, input_types());
  expect_types("output", outputs, output_types());
  const BoundHandles bound(state_->bindings, inputs, outputs);
  for (Instruction& instruction : state_->instructions) {
    instruction.kernel->run(instruction.inputs, instruction.outputs, instruction.workspace);
  }
  for (const Copy& copy : state_->copies) {
    std::memcpy(outputs[as_size(copy.output)].mutable_bytes(), copy.source.bytes(),
                static_cast<std::size_t>(copy.source.num_bytes()));
  }
}

std::vector<OpTiming> Program::time_ops(std::span<const Tensor> inputs, std::span<Tensor> outputs,
                                        int repetitions) {
  SUPERSTEP_CHECK(repetitions > 0, "repetitions", repetitions);
  run(inputs, outputs);  // checks the types; libraries set themselves up
  const BoundHandles bound(state_->bindings, inputs, outputs);
  std::vector<std::vector<double>> seconds(state_->instructions.size());
  for (int i = 0; i < repetitions; ++i) {
    for (std::size_t step = 0; step < state_->instructions.size(); ++step) {
      Instruction& instruction = state_->instructions[step];
      const Stopwatch watch;
      instruction.kernel->run(instruction.inputs, instruction.outputs, instruction.workspace);
      seconds[step].push_back(watch.seconds());
    }
  }
  std::vector<OpTiming> timings;
  for (std::size_t step = 0; step < state_->instructions.size(); ++step) {
    timings.push_back(timing_of(state_->instructions[step],
                                state_->recording.calls[step].attributes,
                                std::move(seconds[step])));
  }
  return timings;
}

int Program::num_ops() const {
  return checked_cast<int>(state_->instructions.size());
}

double Program::flops() const {
  return state_->flops;
}

std::int64_t Program::arena_bytes() const {
  return state_->plan.arena_bytes;
}

std::int64_t Program::liveness_bound_bytes() const {
  return liveness_bound(state_->lifetimes);
}

std::int64_t Program::constant_bytes() const {
  std::int64_t bytes = 0;
  for (const RecordedCall& call : state_->recording.calls) {
    for (const RecordedOperand& input : call.inputs) {
      bytes += input.value < 0 ? input.constant.num_bytes() : 0;
    }
  }
  return bytes;
}

std::string Program::to_string() const {
  const Recording& recording = state_->recording;
  std::string text;
  for (std::size_t i = 0; i < recording.calls.size(); ++i) {
    const RecordedCall& call = recording.calls[i];
    std::string outputs;
    std::string inputs;
    for (const int output : call.outputs) {
      outputs += fmt::format("{}%{} {}", outputs.empty() ? "" : ", ", output,
                             kernels::to_string(recording.values[as_size(output)].type));
    }
    for (const RecordedOperand& input : call.inputs) {
      inputs += (inputs.empty() ? "" : ", ") + describe(input, recording);
    }
    const std::string attributes = call.attributes.to_string();
    text += fmt::format("{} = {}({}){}  [{}{}]\n", outputs, call.op->name, inputs,
                        attributes.empty() ? "" : " {" + attributes + "}",
                        name_of(state_->instructions[i].backend),
                        call.input_layouts.empty() ? "" : ", channel blocks");
  }
  return text;
}

}  // namespace superstep::kernels
