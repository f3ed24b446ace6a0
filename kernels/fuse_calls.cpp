#include "kernels/fuse_calls.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/as_size.h"
#include "base/checked_cast.h"
#include "kernels/fused_pool_ops.h"

namespace superstep::kernels::internal {
namespace {

// Calls by index, kNoCall where there is none.
struct Pooling {
  int bias = kNoCall;
  int relu = kNoCall;
  int pool = kNoCall;
  int pool_backward = kNoCall;
  int relu_backward = kNoCall;
};

class Fusion {
 public:
  explicit Fusion(Recording& recording) : recording_(recording) { find_readers(); }

  void run() {
    for (int call = 0; call < checked_cast<int>(recording_.calls.size()); ++call) {
      if (const std::optional<Pooling> pooling = pooling_that_ends_in(call)) {
        fuse(*pooling);
      }
    }
    std::erase_if(recording_.calls, [](const RecordedCall& call) { return call.op == nullptr; });
    number_calls();
  }

 private:
  RecordedCall& call_at(int index) { return recording_.calls[as_size(index)]; }
  bool is_call_of(int call, std::string_view op) {
    return call != kNoCall && call_at(call).op != nullptr && call_at(call).op->name == op;
  }
  int maker_of(const RecordedOperand& operand) const {
    return operand.value < 0 ? kNoCall : recording_.values[as_size(operand.value)].call;
  }

  // By value: the calls that read it; outputs and views of a value count as readers that no call
  // is.
  void find_readers() {
    readers_.resize(recording_.values.size());
    for (std::size_t i = 0; i < recording_.values.size(); ++i) {
      if (recording_.values[i].root != checked_cast<int>(i)) {
        readers_[i].push_back(kNoCall);
        readers_[as_size(recording_.values[i].root)].push_back(kNoCall);
      }
    }
    for (std::size_t call = 0; call < recording_.calls.size(); ++call) {
      for (const RecordedOperand& input : recording_.calls[call].inputs) {
        if (input.value >= 0) {
          readers_[as_size(input.value)].push_back(checked_cast<int>(call));
        }
      }
    }
    for (const RecordedOperand& output : recording_.outputs) {
      if (output.value >= 0) {
        readers_[as_size(output.value)].push_back(kNoCall);
      }
    }
  }
  const std::vector<int>& readers_of(int value) const { return readers_[as_size(value)]; }

  std::optional<Pooling> pooling_that_ends_in(int call) {
    if (!is_call_of(call, "max_pool") || !can_fuse_max_pool(call_at(call))) {
      return std::nullopt;
    }
    Pooling found{.pool = call};
    found.relu = maker_of(call_at(call).inputs[0]);
    if (!is_call_of(found.relu, "relu")) {
      return std::nullopt;
    }
    found.bias = maker_of(call_at(found.relu).inputs[0]);
    if (!is_call_of(found.bias, "bias_add") || !is_read_by({found.relu}, found.bias)) {
      return std::nullopt;
    }
    return find_way_back(found) ? std::optional(found) : std::nullopt;
  }

  bool can_fuse_max_pool(const RecordedCall& pool) const {
    const RecordedOperand& image = pool.inputs[0];
    return image.value >= 0 &&
           kernels::can_fuse_max_pool(pool.attributes,
                                      recording_.values[as_size(image.value)].type.shape);
  }

  // False where what relu makes is read by others.
  bool find_way_back(Pooling& found) {
    if (is_read_by({found.pool}, found.relu)) {
      return true;  // there is none
    }
    for (const int reader : readers_of(call_at(found.relu).outputs[0])) {
      if (is_call_of(reader, "relu_backward")) {
        found.relu_backward = reader;
      }
    }
    if (found.relu_backward == kNoCall ||
        !is_read_by({found.pool, found.relu_backward}, found.relu)) {
      return false;
    }
    found.pool_backward = maker_of(call_at(found.relu_backward).inputs[0]);
    return is_call_of(found.pool_backward, "max_pool_backward") &&
           is_read_by({found.relu_backward}, found.pool_backward) &&
           call_at(found.pool_backward).inputs[1].value == call_at(found.pool).outputs[1];
  }

  // Whether these calls read output 0 of `call`, once each, and nobody else does.
  bool is_read_by(std::vector<int> expected, int call) {
    std::vector<int> readers = readers_of(call_at(call).outputs[0]);
    std::sort(readers.begin(), readers.end());
    std::sort(expected.begin(), expected.end());
    return readers == expected;
  }

  void fuse(const Pooling& found) {
    RecordedCall& pool = call_at(found.pool);
    pool.op = &bias_relu_max_pool_op();
    pool.inputs = call_at(found.bias).inputs;
    call_at(found.bias).op = nullptr;
    call_at(found.relu).op = nullptr;
    if (found.relu_backward == kNoCall) {
      return;
    }
    RecordedCall& backward = call_at(found.relu_backward);
    const RecordedCall& scatter = call_at(found.pool_backward);
    const std::vector<std::int64_t> images = scatter.attributes.integers("input_shape");
    backward.op = &relu_max_pool_backward_op();
    backward.attributes = Attributes(pool.attributes).with("input_shape", images);
    backward.inputs = {scatter.inputs[0], scatter.inputs[1], {pool.outputs[0], {}}};
    call_at(found.pool_backward).op = nullptr;
  }

  void number_calls() {
    for (std::size_t call = 0; call < recording_.calls.size(); ++call) {
      for (const int output : recording_.calls[call].outputs) {
        recording_.values[as_size(output)].call = checked_cast<int>(call);
      }
    }
  }

  Recording& recording_;
  std::vector<std::vector<int>> readers_;
};

}  // namespace

void fuse_calls(Recording& recording) {
  Fusion(recording).run();
}

}  // namespace superstep::kernels::internal
