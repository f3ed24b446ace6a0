// A recorded step: eager to write, planned to run.
//
//   Program program = Program::record(input_types, step);
//   program.run(inputs, outputs);   // the same bits as step(inputs)
//
// where step takes a span of tensors, applies ops (tapes too) and returns tensors. run() and our
// kernels allocate nothing; oneDNN 2.6 allocates a few small blocks for each of its primitives.
//
// record() runs the function once on zero tensors, keeps every op that an output depends on
// (gradients included, since they are made of ops), prepares one kernel per op, and plans one arena
// in which tensors whose lifetimes do not overlap share memory. Ops must not depend on tensor
// values in their control flow. Tensors the function captures are constants, held by handle. Ops
// that depend on no input are computed once, when recording. A Program is used by one thread at a
// time; ranks have their own. A kernel that throws (a label out of range) leaves the outputs
// unspecified and the program usable.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/op.h"

namespace superstep::kernels {

// What one op of a program took.
struct OpTiming {
  std::string call;      // "matmul(float32 (64, 784), float32 (784, 200)) [onednn]"
  double seconds = 0.0;  // median of the repetitions
  double flops = 0.0;
  double bytes = 0.0;  // inputs and outputs, each once
};

// How a step over one slot becomes one over several slots of as many samples each.
struct SlotPlan {
  std::vector<bool> batched_inputs;  // by input: axis 0 counts samples (else all slots share it)
  int num_row_outputs = 0;           // the first outputs have a row per sample, the others are sums
  // One per slot: how often the two newest sums are added (left + right) after this slot. The last
  // one leaves a single sum.
  std::vector<int> folds;
};

class Program {
 public:
  struct State;
  using Function = std::function<std::vector<Tensor>(std::span<const Tensor>)>;

  static Program record(std::span<const TensorType> inputs, const Function& function);
  // The step of several slots in one pass (kernels/slot_join.h): batched inputs and the outputs
  // with rows hold the slots' samples one behind the other; the other outputs are the slots'
  // outputs, added along the tree of the folds. The bits are those of one slot after the other, and
  // where a shape does not give them together, its calls are made slot by slot. `inputs` are the
  // types of one slot. Nothing where memory of slots would not start on 64 bytes.
  static std::optional<Program> record_slots(std::span<const TensorType> inputs,
                                             const Function& function, const SlotPlan& plan);
  Program(Program&&) noexcept;
  Program& operator=(Program&&) noexcept;
  ~Program();

  std::span<const TensorType> input_types() const;
  std::span<const TensorType> output_types() const;
  // inputs and outputs have exactly these types; output memory must not overlap input memory. A
  // kernel writes an output directly into the caller's memory (a view or an output that is an input
  // is copied).
  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs);
  // Runs `repetitions` times and times every op: where a step's time goes, in order of execution.
  std::vector<OpTiming> time_ops(std::span<const Tensor> inputs, std::span<Tensor> outputs,
                                 int repetitions);

  int num_ops() const;
  double flops() const;
  std::int64_t arena_bytes() const;           // what run() uses beyond inputs and outputs
  std::int64_t liveness_bound_bytes() const;  // the least any plan of this order needs
  std::int64_t constant_bytes() const;        // tensors the function made or captured
  std::string to_string() const;              // one line per op, for people

 private:
  explicit Program(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace superstep::kernels
