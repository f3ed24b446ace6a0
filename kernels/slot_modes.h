// How each call of a recording is made for several slots in one pass (kernels/slot_join.h): the
// choice, and the proof that it keeps the bits (kernels/slot_proofs.h).
//
// Internal to Program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "base/as_size.h"
#include "base/checked_cast.h"
#include "kernels/program.h"
#include "kernels/program_recorder.h"

namespace superstep::kernels::internal {

enum class SlotMode : std::uint8_t {
  kOnce,       // it reads nothing of a slot
  kTogether,   // one call over the samples of all slots
  kOverSlots,  // x^T dy, slot by slot and added in registers
  kBySlot,     // one call per slot
};

// Slots of one call of matmul_over_slots.
struct SlotGroup {
  int begin = 0;
  int end = 0;
  std::vector<int> folds;  // inside
  int folds_after = 0;     // of its sum with those before
};

// Keeps references to the recording and the plan.
class SlotModes {
 public:
  SlotModes(const Recording& one, const SlotPlan& plan);

  SlotMode operator[](std::size_t call) const { return modes_[call]; }
  std::size_t size() const { return modes_.size(); }
  int num_slots() const { return checked_cast<int>(plan_.folds.size()); }

  // Whether all slots read the same value; `root` as in RecordedValue.
  bool is_shared(int root) const { return is_shared_[as_size(root)]; }
  // Which inputs of a call made together are samples of slots.
  const std::vector<bool>& rows_of(const RecordedCall& call) const {
    return rows_of_calls_.at(&call);
  }
  // Of a call over slots.
  std::vector<SlotGroup> groups_of(const RecordedCall& call) const {
    return groups(group_size(call));
  }
  // The recording's output that this value is, -1: none.
  int output_of(int index) const;
  // Of one slot.
  TensorType type_of(const RecordedOperand& operand) const;

 private:
  void choose_modes();
  void count_uses();
  SlotMode mode_of(const RecordedCall& call);
  std::vector<bool> rows_of_call(const RecordedCall& call) const;
  bool is_sum_over_slots(const RecordedCall& call) const;
  std::vector<SlotGroup> groups(int slots_per_group) const;
  int group_size(const RecordedCall& call) const;
  std::vector<TensorType> types_of(const RecordedCall& call) const;

  const RecordedValue& value(int index) const { return one_.values[as_size(index)]; }
  bool reads_shared(const RecordedOperand& operand) const {
    return operand.value < 0 || is_shared(value(operand.value).root);
  }
  bool has_rows(const TensorType& type) const {
    return type.shape.rank() > 0 && type.shape[0] == samples_;
  }

  const Recording& one_;
  const SlotPlan& plan_;
  std::int64_t samples_ = 0;     // of a slot
  std::vector<bool> is_shared_;  // by root
  std::vector<int> uses_;        // by root
  std::vector<SlotMode> modes_;  // by call
  std::map<const RecordedCall*, std::vector<bool>> rows_of_calls_;
};

}  // namespace superstep::kernels::internal
