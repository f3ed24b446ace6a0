// What tapes and recordings share: the list of op calls, and the links by which tensors find it.
//
// Internal to apply, Tape and Program. A tensor's links name (tape, node) pairs; node numbers count
// the tensors of one tape. Links hold their tape weakly: a tape that is gone takes no part any
// more.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/op.h"
#include "kernels/tape.h"

namespace superstep::kernels {

namespace internal {

inline constexpr std::int64_t kNoNode = -1;  // a constant to the tape

// One call: of `op`, or of a function with a gradient of its own (then op is null).
struct TapeEntry {
  const OpInfo* op = nullptr;
  Attributes attributes;
  BackwardFunction backward;
  std::vector<Tensor> inputs;
  std::vector<Tensor> outputs;
  std::vector<std::int64_t> input_nodes;
  std::vector<std::int64_t> output_nodes;
};

enum class TapePurpose : std::uint8_t { kGradient, kProgram };

class TapeState {
 public:
  explicit TapeState(TapePurpose tape_purpose) : purpose(tape_purpose) {}
  std::int64_t add_node() { return num_nodes++; }

  const TapePurpose purpose;
  bool is_recording = true;
  std::int64_t num_nodes = 0;
  std::deque<TapeEntry> entries;  // references stay valid while a gradient is recorded behind them
};

struct TapeLink {
  std::weak_ptr<TapeState> tape;
  std::int64_t node = kNoNode;
};

// The node of a tensor on a tape; kNoNode when it is a constant to it.
std::int64_t node_on(const Tensor& tensor, const TapeState& tape);

// The same tensor with one link more (a new node).
Tensor linked_to(const Tensor& tensor, const std::shared_ptr<TapeState>& tape);

// Whether a Program that is being recorded knows this tensor.
bool is_under_recording(const Tensor& tensor);

// The same tensor linked only to the programs under recording, not to gradient tapes.
Tensor without_gradient_links(const Tensor& tensor);

// Links the outputs to every recording tape an input is linked to and writes the call there.
// Outputs keep the links they have. A call without op is not written to programs.
void record_call(const OpInfo* op, std::span<const Tensor> inputs, const Attributes& attributes,
                 const BackwardFunction& backward, std::span<Tensor> outputs);

}  // namespace internal

// Immutable and shared by the copies of a handle.
class TapeLinks {
 public:
  explicit TapeLinks(std::vector<internal::TapeLink> links) : links_(std::move(links)) {}
  std::span<const internal::TapeLink> links() const { return links_; }

 private:
  std::vector<internal::TapeLink> links_;
};

}  // namespace superstep::kernels
